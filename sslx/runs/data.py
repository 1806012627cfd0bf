"""The images of a run."""

from typing import Any

from sslx.core.data import Split
from sslx.core.errors import ConfigError
from sslx.core.randomness import Use
from sslx.core.training.config import RunConfig
from sslx.core.training.run import Launch
from sslx.core.training.runtime import Runtime


def load_data(config: RunConfig, launch: Launch, runtime: Runtime) -> tuple[Split, Split]:
    """Training and test split; the main process loads first, so that a download happens once."""
    if not runtime.main:
        runtime.barrier()
    train, test = config.dataset.halves(launch.data_dir, launch.offline)
    if runtime.main:
        runtime.barrier()
    if config.subset is not None:
        if config.subset > len(train):
            raise ConfigError(f"subset: expected at most {len(train)}, the number of images, got {config.subset}")
        if config.subset % train.arity:
            expected = f"a multiple of {train.arity}, as so many images belong together"
            raise ConfigError(f"subset: expected {expected}, got {config.subset}")
        order = train.shuffled(Use.SUBSET, config.seed)
        train = train.take(order[: config.subset].sort().values)
    return train, test


def facts(train: Split) -> dict[str, Any]:
    """What must be known of the training set to build the method; run.json keeps it."""
    return {"image_shape": tuple(train.images.shape[1:]), "samples": len(train), "arity": train.arity}
