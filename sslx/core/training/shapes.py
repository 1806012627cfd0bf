"""Sizes of images: those that the networks of a method were not built for are refused before training."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from sslx.core.data import Split, pixels
from sslx.core.errors import ConfigError
from sslx.core.interfaces import Method
from sslx.core.options import label
from sslx.core.randomness import borrowed
from sslx.core.training.config import RunConfig
from sslx.core.views import Views


def rehearse(config: RunConfig, method: Method, split: Split) -> None:
    """Represent two images, if they have another size than the views that the method was built for.

    Raises ConfigError if the method cannot, as it could not be evaluated after training.
    """
    C, H, W = split.images.shape[1:]
    built = config.views.shape((C, H, W))
    if built == (C, H, W) or len(split) < 2:
        return
    device = next((value.device for value in method.state_dict().values()), torch.device("cpu"))
    x = pixels(split.images[torch.arange(2)].to(device))
    with _explained(config, {"views": built, "images": x.shape}), torch.no_grad(), borrowed():
        method.eval().represent(x)


@contextmanager
def first_step(config: RunConfig, views: Views) -> Iterator[None]:
    """Turn an error inside, which the sizes of the views may have caused, into a ConfigError that names them."""
    sizes = {"views": views.x, "images": views.original, **({} if views.local is None else {"local": views.local})}
    with _explained(config, {name: x.shape for name, x in sizes.items()}):
        yield


@contextmanager
def _explained(config: RunConfig, shapes: Mapping[str, Sequence[int]]) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        sizes = {name: "x".join(map(str, shape[-2:])) for name, shape in shapes.items()}
        if isinstance(error, torch.OutOfMemoryError) or len(set(sizes.values())) == 1:
            raise
        encoder = getattr(config.method, "encoder", None)
        part = label(config.method) if encoder is None else f"{label(config.method)} with encoder {label(encoder)}"
        named = ", ".join(f"{name} of {size}" for name, size in sizes.items())
        raise ConfigError(
            f"views: {part} does not take {named}: {str(error).splitlines()[0]}; choose an encoder for any size, such "
            "as cnn, views.size=0, or views.local=none"
        ) from error
