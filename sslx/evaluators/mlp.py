"""The MLP probe: are the classes there, if not behind a hyperplane?"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sslx.api import Evaluation, Evaluator, Result, option
from sslx.evaluators.common import Fit, finite, fit, labels, network, outputs, standardised, without_classes


class MLP(Evaluator):
    """Linear, ReLU, Linear on the standardised representation of the clean training set, by AdamW in float32.

    SimVAE's probe (A.7.5; the width of the hidden layer is from its code), with two differences: the paper prints the
    best test accuracy of 200 epochs, here a held-out tenth of the training set says which weights are tested; and the
    paper's rate of 3e-4 for those epochs, 94 000 steps on MNIST, is ten times as large for a tenth of the steps.

    Scores:
        mlp: test accuracy without weight decay.
        mlp-tuned: that of the weight decay, of 0 and all of `tuned`, whose held-out loss is smallest.
    """

    best = 1.0

    hidden: int | None = option(default=None, gt=0, help="width of the hidden layer; none: that of the representation")
    tuned: tuple[float, ...] = option(default=(0.1, 1.0), gt=0, help="weight decays tried for mlp-tuned")
    steps: int = option(default=10_000, gt=0, help="most batches; training stops before, where it does not help")
    batch_size: int = option(default=128, gt=0, help="images of a batch")
    lr: float = option(default=3e-3, gt=0, help="learning rate")

    def skip(self, evaluation: Evaluation) -> str:
        return without_classes(evaluation)

    def evaluate(self, evaluation: Evaluation) -> Result:
        z, q = standardised(*finite(evaluation))
        train, test = labels(evaluation)
        classes, codes = train.unique(return_inverse=True)
        hidden = self.hidden or z.shape[1]

        def probe(weight_decay: float) -> tuple[Fit, float]:
            model = network(z.shape[1], hidden, len(classes))
            found = fit(
                model, z, codes, F.cross_entropy, steps=self.steps, batch_size=self.batch_size, lr=self.lr,
                weight_decay=weight_decay, seed=evaluation.seed,
            )  # fmt: skip
            return found, _accuracy(classes[outputs(model, q).argmax(dim=1)], test)

        probes = {decay: probe(decay) for decay in (0.0, *self.tuned)}
        chosen = min(probes, key=lambda decay: probes[decay][0].loss)
        return Result(
            scores={"mlp": probes[0.0][1], "mlp-tuned": probes[chosen][1]},
            protocol={
                "trained_on": len(z),
                "tested_on": len(q),
                "hidden": hidden,
                "weight_decay_chosen": chosen,
                "probes": {
                    f"{decay:g}": {"held_out": fit._asdict(), "test": acc} for decay, (fit, acc) in probes.items()
                },
            },
            summary=(
                f"{hidden} hidden units, trained on {len(z)}, stopped by a held-out tenth of them; "
                "tuned: weight decay chosen on it too"
            ),
        )


def _accuracy(predicted: Tensor, truth: Tensor) -> float:
    return (predicted == truth).double().mean().item()
