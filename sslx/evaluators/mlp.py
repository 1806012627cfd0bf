"""The MLP probe, which also finds classes that no hyperplane separates."""

import torch.nn.functional as F

from sslx.api import Evaluation, Result, option
from sslx.evaluators.common import Fit, Trains, finite, labels, network, outputs, standardized, without_classes


class MLP(Trains):
    """Linear, ReLU, Linear on the standardized representation of the clean training set, by AdamW in float32.

    SimVAE's probe (A.7.5; the width of the hidden layer is from its code), with two differences. The paper prints the
    best test accuracy of 200 epochs; here a held-out tenth of the training set decides which weights are tested. The
    paper's learning rate is 3e-4 for 94 000 steps on MNIST; here it is ten times as large for a tenth of the steps.

    Scores:
        mlp: test accuracy without weight decay.
        mlp-tuned: test accuracy with the weight decay, 0 or one of `tuned`, that has the smallest held-out loss.
    """

    best = 1.0

    hidden: int | None = option(
        default=None, gt=0, help="Width of the hidden layer; none is that of the representation."
    )
    tuned: tuple[float, ...] = option(default=(0.1, 1.0), gt=0, help="Weight decays that are tried for mlp-tuned.")

    def skip(self, evaluation: Evaluation) -> str:
        return without_classes(evaluation)

    def evaluate(self, evaluation: Evaluation) -> Result:
        z, q = standardized(*finite(evaluation))
        train, test = labels(evaluation)
        classes, codes = train.unique(return_inverse=True)
        hidden = self.hidden or z.shape[1]

        def probe(weight_decay: float) -> tuple[Fit, float]:
            model = network(z.shape[1], hidden, len(classes))
            found = self.fit(evaluation, model, z, codes, F.cross_entropy, weight_decay=weight_decay)
            correct = classes[outputs(model, q).argmax(dim=1)] == test
            return found, correct.double().mean().item()

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
                f"{hidden} hidden units, trained on {len(z)} training images; a held-out tenth of them stops training, "
                "and chooses the weight decay of mlp-tuned"
            ),
        )
