"""Parts of sslx in a loop of your own, without a run: views, scores, and networks from files."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from sslx.core.console import say
from sslx.core.data import Split, in_bytes
from sslx.core.errors import ConfigError, SslxError
from sslx.core.files import plain
from sslx.core.interfaces import Context, Dataset, Method, ViewPolicy
from sslx.core.options import make
from sslx.core.randomness import borrowed
from sslx.core.terms import Terms
from sslx.core.training.config import EVALUATORS, configure, evaluator_table
from sslx.core.training.evaluation import evaluate
from sslx.core.training.run import default_data_dir, network
from sslx.core.views import Views
from sslx.runs.protocols import with_protocol
from sslx.runs.session import evaluator_names, open_run
from sslx.runs.weights import begin_with, encoder_from, exported


@attrs.frozen
class Augment:
    """A view policy as a function of images, as `sslx.views` returns it. `policy` is the policy itself."""

    policy: ViewPolicy

    def __call__(self, images: Any, *, key: Any = None) -> Any:
        """Views of images, (J, N, C, size, size) floats in [0, 1] on the images' device: `x1, x2 = views(images)`.

        J comes first, so that iterating gives each view as a batch (N, C, h, w), and `x.flatten(0, 1)` is one batch of
        all views. A policy with local crops gives a list of such batches: the J whole views, then the crops.

        Args:
            images: an array or tensor (N, H, W), (N, C, H, W) or (N, H, W, C), with C = 1 or 3; or a list of N arrays,
                tensors or Pillow's images of any sizes, each (H, W), (C, H, W) or (H, W, C). They are uint8, or floats
                in [0, 1], which are rounded to the 256 levels of uint8. Images of different sizes need a `size`; each
                is cropped as it is and not resized before.
            key: None draws one number from torch's default generator, so that `torch.manual_seed` repeats the views. An
                integer, or (seed, epoch, index) with the N positions of the images in their dataset, makes the views a
                pure function of images and key. The views of the latter are those of a run with this seed. An integer
                stands for (integer, 0, range(N)).

        Raises:
            ConfigError: the images or the key are not as above, or the policy cannot be applied to them.
        """
        batches = _batches(images)
        seed, epoch, index = _key(key, sum(len(where) for where, _ in batches))
        made = [self.policy(x, index[where], seed=seed, epoch=epoch) for where, x in batches]
        order = torch.cat([where for where, _ in batches]).argsort()
        x = _joined([views.x for views in made], order)
        local = [views.local for views in made if views.local is not None]
        return [*x, *_joined(local, order)] if local else x

    def collate(self, samples: Sequence[Any]) -> Any:
        """`DataLoader(dataset, collate_fn=views.collate)`: a list of the views, the labels and whatever else there is.

        Args:
            samples: (image, label, ...) or images alone. Images are as in a list above, the rest is collated as usual.
        """
        from torch.utils.data import default_collate

        if not isinstance(samples[0], tuple | list):
            return self(list(samples))
        images, *others = zip(*samples, strict=True)
        return [self(images), *(default_collate(list(values)) for values in others)]


def views(policy: str | type[ViewPolicy] | ViewPolicy = "standard", /, **options: Any) -> Augment:
    """Random views of any images: `views = sslx.views("simclr", size=224, count=2)`, then `x1, x2 = views(images)`.

    Images are arrays or tensors on any device, uint8 or floats in [0, 1], or a list of images of any sizes. The result
    is (J, N, C, size, size), a tensor of floats on the images' device, and a list of J batches and the local crops if
    the policy has any. It is random as torch is, or with `views(images, key=...)` a pure function of images and key.
    `DataLoader(dataset, collate_fn=views.collate)` makes views of the images of a dataset.

    Args:
        policy: the name of a view policy, its class or an object.
        options: its options, which are those of `sslx run --set views.NAME=VALUE`.

    Raises:
        ConfigError: with one line for each mistake.
    """
    if isinstance(policy, ViewPolicy) and options:
        raise ConfigError(f"views: {policy!r} has its options already, got {', '.join(options)} beside it")
    return Augment(make(ViewPolicy, policy if isinstance(policy, ViewPolicy) else {"use": policy, **options}, "views"))


def score(
    train_x: Any,
    train_y: Any,
    test_x: Any,
    test_y: Any,
    *,
    model: nn.Module | None = None,
    evaluators: Any = None,
    protocol: str | None = None,
    views: Any = "standard",
    seed: int = 0,
) -> dict[str, Any]:
    """Scores of features, or of a network, by the evaluators of runs: `sslx.score(z, y, z2, y2, protocol="dino")`.

    Equal features, labels and seed give the scores that a run has. Everything is computed on the device of the model,
    or of features that are tensors.

    Args:
        train_x: features (n, D) of any real type. With a model these are its inputs: images (n, C, H, W), or
            (n, H, W, C) with C = 1 or 3, of uint8, which it sees as floats in [0, 1], or floats, which it sees as they
            are.
        train_y: integer labels, (n,).
        test_x: features or images of the test set, of the same shape.
        test_y: their labels.
        model: a network that maps images to (n, D), or a method. It is evaluated as it is, in evaluation mode.
        evaluators: as in `sslx.run`; by default knn and linear, or those of the protocol alone.
        protocol: as in `sslx.run`.
        views: the view policy, for evaluators that augment images, such as `geometry`: as in `sslx.views`, or a table.
        seed: seed of the evaluators.

    Returns:
        For each evaluator what `results.json` has: `options`, `scores`, `protocol`, `summary` and `of`; or the reason
        why it has no scores, `skipped` or `failed`, which is also said. Features alone have no views.

    Raises:
        ConfigError: the arrays do not fit each other, or the evaluators are wrong.
        SslxError: no evaluator has a score.
    """
    if evaluators is None:
        evaluators = EVALUATORS if protocol is None else ()
    table = evaluators if isinstance(evaluators, Mapping) else evaluator_table(evaluator_names(evaluators))
    if protocol is not None:
        table = with_protocol(protocol, table)
    policy = views.policy if isinstance(views, Augment) else views
    config = configure({"method": "random", "views": policy, "seed": seed}, evaluators=table, recommend=False)
    train, test = (_split(x, y, model, half) for x, y, half in ((train_x, train_y, "train"), (test_x, test_y, "test")))
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = " and ".join(str(tuple(half.images.shape[1:])) for half in (train, test))
        raise ConfigError(f"score: train_x and test_x differ in shape, {shapes}")
    if isinstance(model, Method):
        method: Method = model
    else:
        method = _Given()
        method.model = nn.Identity() if model is None else model
    assert isinstance(train.images, Tensor), "what `_split` makes"
    device = next((weight.device for weight in method.state_dict().values()), train.images.device)
    modes = {part: part.training for part in method.modules()}
    try:
        report = evaluate(
            config.evaluators, method, (train, test), config.views, device, seed, _load, "the", offline=True
        )
    finally:
        for part, mode in modes.items():
            part.training = mode
    hint = "" if model is not None else "; an evaluator that needs images also needs model="
    reasons = {name: result.get("skipped") or result.get("failed") for name, result in report.items()}
    missing = [f"score: {name} has no scores: {reason}{hint}" for name, reason in reasons.items() if reason]
    if len(missing) == len(report):
        raise SslxError("\n".join(missing))
    for line in missing:
        say(line)
    found: dict[str, Any] = plain(report)
    return found


def load(
    source: Path | str,
    encoder: Any = None,
    *,
    image_shape: Sequence[int] | None = None,
    of: str | None = None,
    trust_code: bool = False,
) -> nn.Module:
    """A trained network as a plain module in evaluation mode, on the CPU: images (B, C, H, W) -> (B, D).

    Images are floats in [0, 1], or uint8. Weights of sslx need nothing else; those of another program need the name of
    an encoder that has weights of the same names and shapes, and the shape of the images.

    Args:
        source: a .safetensors file or its folder, as `sslx export` or another program wrote it; `timm:NAME`; or the
            folder of a run, of which this is `sslx.open_run(source).encoder(of)`.
        encoder: a name, or a table of options with the name under `use`, as `--set encoder` takes them.
        image_shape: (C, H, W); by default that of the `config.json` which sslx wrote beside the weights.
        of: "features" or "latent"; by default the features, and for a run what it is evaluated by. The latent needs a
            file with the weights of the whole encoder: what is exported for timm has the features alone.
        trust_code: whether a file of code that the config beside the weights names is executed.

    Raises:
        ConfigError: there are no such weights, or they are not those of this encoder.
    """
    if (Path(source).expanduser() / "config.toml").is_file():
        return open_run(Path(source).expanduser(), trust_code=trust_code).encoder(of)
    source = str(source)
    if source.endswith((".onnx", ".pt2")):
        raise ConfigError(f"{source}: is a program, not weights; onnxruntime or torch.export.load reads it")
    if (shape := image_shape or exported(source).get("image_shape")) is None:
        raise ConfigError(
            f"{source}: has no config of sslx beside it; image_shape=(C, H, W) says which images it takes"
        )
    options = {"use": encoder} if isinstance(encoder, str | type) else encoder or {}
    part = encoder_from(source, options, trust_code, whole=of == "latent")
    method = make(Method, {"use": "random", "encoder": part, "representation": of or "features"}, owner="sslx")
    with borrowed():
        method.build(Context(tuple(shape), samples=1))
    begin_with(method, source)
    return network(method.eval().requires_grad_(), of)


# --- arrays -----------------------------------------------------------------------------------------------------------


class _Given(Method):
    """A method whose representation is what a module returns. It cannot be trained."""

    representation = "features"

    def forward(self, views: Views) -> Terms:
        raise NotImplementedError

    def represent(self, x: Tensor) -> Tensor:
        return self.model(x)

    def representations(self) -> dict[str, Any]:
        return {"features": self.represent}


def _load(dataset: Dataset) -> tuple[Split, Split]:
    return dataset.halves(default_data_dir(), offline=True)


def _tensor(values: Any, what: str) -> Tensor:
    """An array, a tensor, or an image of Pillow as a tensor. Raises ConfigError for anything else."""
    if isinstance(values, Tensor):
        return values
    if hasattr(values, "getbands") and values.mode[0] not in "IF":  # Pillow would clip more than 8 bits
        values = values.convert("L" if values.mode in ("1", "L") else "RGB")
    try:
        array = np.ascontiguousarray(values)
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what}: expected an array or a tensor, got {type(values).__name__}") from error


def _batches(images: Any) -> list[tuple[Tensor, Tensor]]:
    """Images as their positions (n,) and (n, C, H, W) uint8, for each of their sizes."""
    if not isinstance(images, list | tuple):
        x = _image_bytes(_tensor(images, "views"))
        return [(torch.arange(len(x)), x)]
    found = [_image_bytes(_tensor(image, "views")[None])[0] for image in images]
    if not found:
        raise ConfigError("views: expected at least one image, got an empty list")
    channels = max(len(x) for x in found)
    sizes: dict[torch.Size, list[int]] = {}
    for i, x in enumerate(found):
        sizes.setdefault(x.shape[1:], []).append(i)
    stacked = [torch.stack([found[i].expand(channels, -1, -1) for i in where]) for where in sizes.values()]
    return [(torch.tensor(where), x) for where, x in zip(sizes.values(), stacked, strict=True)]


def _image_bytes(x: Tensor) -> Tensor:
    """(N, H, W), (N, C, H, W) or (N, H, W, C) -> (N, C, H, W) uint8. Raises ConfigError."""
    shape, x = tuple(x.shape), _channels_first(x)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or not x.numel():
        expected = "(N, H, W), (N, C, H, W) or (N, H, W, C) with C = 1 or 3"
        raise ConfigError(f"views: expected images as {expected}, got {shape}; one image x is [x]")
    return in_bytes(x, "views")


def _channels_first(x: Tensor) -> Tensor:
    """(N, H, W) or (N, H, W, C) -> (N, C, H, W), for one or three channels; anything else as it is."""
    if x.ndim == 3 and x.shape[2] not in (1, 3):
        return x[:, None]
    if x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        return x.movedim(3, 1)
    return x


def _key(key: Any, n: int) -> tuple[int, int, Tensor]:
    """Seed, epoch and (n,) positions. Raises ConfigError."""
    if key is None:
        key = torch.randint((1 << 63) - 1, ())
    try:
        seed, epoch, index = key if isinstance(key, tuple | list) else (key, 0, torch.arange(n))
        positions = torch.as_tensor(index, device="cpu")
        numbers = torch.tensor([operator.index(seed), operator.index(epoch)]).tolist()
        if positions.is_floating_point():
            raise TypeError("positions are integers")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ConfigError(f"views: expected key as an integer or as (seed, epoch, index), got {key!r}") from error
    if positions.shape != (n,):
        raise ConfigError(f"views: expected the positions of {n} images in key, got {tuple(positions.shape)}")
    return numbers[0], numbers[1], positions.long()


def _joined(parts: Sequence[Tensor], order: Tensor) -> Tensor:
    """(n, J, C, h, w) of images of each size -> (J, N, C, h, w) in the order of the images. Raises ConfigError."""
    if len(parts) == 1:
        return parts[0].transpose(0, 1)
    if len(shapes := {part.shape[2:] for part in parts}) > 1:
        found = ", ".join("x".join(map(str, shape[1:])) for shape in sorted(shapes))
        raise ConfigError(f"views: images of several sizes have views of {found}; set size, such as size=224")
    return torch.cat(list(parts))[order].transpose(0, 1)


def _split(x: Any, y: Any, model: nn.Module | None, half: str) -> Split:
    """The inputs of a model, or features as such. Raises ConfigError."""
    inputs, labels = _tensor(x, f"{half}_x"), _tensor(y, f"{half}_y")
    if model is None and inputs.ndim != 2:
        raise ConfigError(f"{half}_x: expected features (n, D), got {tuple(inputs.shape)}; images also need model=")
    if labels.shape != (len(inputs),) or labels.is_floating_point() or labels.is_complex():
        got = f"{tuple(labels.shape)} of {labels.dtype}"
        raise ConfigError(f"{half}_y: expected integer labels ({len(inputs)},), got {got}")
    if model is not None and (inputs.ndim == 4 or inputs.dtype == torch.uint8):
        inputs = _channels_first(inputs)
    return Split(inputs if model is not None and inputs.dtype == torch.uint8 else inputs.float(), labels.long().cpu())
