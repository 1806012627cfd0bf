"""Fine-tuning: the whole network is trained further with labels, with all of them or with a few."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from sslx.api import DataError, Evaluation, Result, Use, option, permutation
from sslx.evaluators.common import draw, labels
from sslx.evaluators.probe import Trained


class Finetune(Trained, epochs=20):
    """Accuracy of the network when it is trained further with labels, under a new linear layer.

    A copy of the network up to its features, or its latent if it has none, and the new layer minimize the
    cross-entropy, each with a learning rate of its own. Nothing is chosen: the score is that of the last epoch. That of
    the untrained encoder is what the labels alone achieve with this network.

    `fraction=0.01` trains with the labels of one image in a hundred of each class, and at least one, which the seed
    draws: the semi-supervised scores of papers.

    Scores:
        finetune: test accuracy.
    """

    ignored = frozenset({"of"})

    lr: float = option(default=0.2, gt=0, help="Learning rate of the new linear layer.")
    lr_network: float = option(default=0.01, ge=0, help="Learning rate of the network below the new layer.")
    fraction: float = option(default=1.0, gt=0, le=1, help="Part of the training images of each class that is used.")

    def evaluate(self, evaluation: Evaluation) -> Result:
        device, seed = evaluation.device, evaluation.seed
        train, test = (y.to(device) for y in labels(evaluation))
        classes, codes = train.unique(return_inverse=True)
        used = draw(codes.cpu(), self.fraction, seed, 0).sort().values

        method = copy.deepcopy(evaluation.method).requires_grad_()
        known = method.representations()
        below = "features" if "features" in known else next(iter(known))
        network = known[below]
        weights = list(method.parameters())
        with torch.no_grad():
            width = network(self._images(evaluation, used[:1], 0)).shape[1]
        layer = nn.Linear(width, len(classes)).to(device)
        groups = [{"params": list(layer.parameters()), "lr": self.lr}, {"params": weights, "lr": self.lr_network}]
        optimizer = self._optimize([group for group in groups if group["params"]])

        method.train()
        for epoch in range(self.epochs):
            evaluation.heed()
            self._begin(optimizer, epoch)
            order = used[permutation(len(used), Use.EVALUATION, seed, epoch)]
            for index in order.split(self.batch_size):
                if len(index) == 1 < len(used):
                    continue  # batch normalization needs two images
                logits = layer(network(self._images(evaluation, index, epoch)).float())
                optimizer.zero_grad()
                F.cross_entropy(logits, codes[index.to(device)]).backward()
                optimizer.step()

        method.eval()
        with torch.no_grad():
            logits = torch.cat([layer(network(x).float()) for x in evaluation.data[1].batches(device)])
        if not logits.isfinite().all():
            raise DataError("the fine-tuning diverged. Try smaller learning rates")
        learned = sum(weight.numel() for weight in weights if weight.grad is not None)
        return Result(
            scores={"finetune": (classes[logits.argmax(dim=1)] == test).double().mean().item()},
            protocol={
                "trained_on": len(used),
                "of": len(codes),
                "per_class": codes[used.to(device)].bincount().tolist(),
                "tested_on": len(test),
                "network": f"the {below} of the method, {width} dimensions",
                "weights": learned,
                "lr": self.lr,
                "lr_network": self.lr_network,
            },
            summary=f"the whole network ({learned} weights) under a new linear layer, with the labels of {len(used)} "
            f"training images; {self._recipe()}; test accuracy after the last epoch",
        )
