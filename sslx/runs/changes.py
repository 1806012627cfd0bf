"""Changes of a run's options while it is under way, which run.json records."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sslx.core.console import say
from sslx.core.errors import ConfigError, Problems
from sslx.core.files import digest, plain, replace
from sslx.core.options import Component, options_of, to_dict
from sslx.core.toml import dumps
from sslx.core.training import checkpoint
from sslx.core.training.config import layer, unlayer
from sslx.core.training.during import check_evaluators
from sslx.core.training.run import Run

_FIXED = ("train.batch_size", "train.optimizer")  # these decide what a step is
_FREE = ("train.", "loader", "evaluators.", "eval_dataset")


def amend(run: Run, changes: Mapping[str, Any]) -> None:
    """Change options of a run from here on. A finished run that is to train longer is no longer finished.

    Args:
        changes: values by the keys that `--set` takes.

    Raises:
        ConfigError: an option cannot be changed within a run, or the run has trained longer already.
    """
    after = run.configured(layer(changes))
    old, new = run.settings, plain(to_dict(after))
    before, now = unlayer(old), unlayer(new)
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    paths = {f"dataset.{name}" for name in _paths(run.config.dataset)}
    problems = Problems(
        f"{key}: cannot change within a run, only options of train, loader, evaluators and eval_dataset can, "
        f"and the place of the data; `sslx run --from {run.path}` starts another run from its weights"
        for key in changed
        if key in _FIXED or not (key.startswith(_FREE) or key in paths)
    )
    problems.check()
    check_evaluators(after)
    path, _ = checkpoint.newest(run.folder.checkpoints)
    step = 0 if path is None else checkpoint.manifest(path)["step"]
    per_epoch = run.data["samples"] // after.train.batch_size
    total, was = after.train.epochs * per_epoch, run.config.train.epochs * per_epoch
    if total < min(step, was):
        raise ConfigError(f"train.epochs: {step // per_epoch} epochs are trained already, got {after.train.epochs}")
    if not changed:
        return
    rates = [config.train.optimizer.rate(step, end, per_epoch) for config, end in ((run.config, was), (after, total))]
    if step and rates[0] != rates[1]:
        say(f"{run.path}: the learning rate at step {step} is {rates[1]:.3g} instead of {rates[0]:.3g}")
    run.folder.lock()
    try:
        if kept := run.folder.keep_results():
            say(f"{run.path}: the results so far are in {kept}")
            (run.path / "results.json").unlink()
        (run.path / "evaluation.json").unlink(missing_ok=True)
        recorded = run.folder.facts()
        before_ = digest(recorded.get("config", old))  # as it was written, perhaps by an older version
        change = {"step": step, "options": {key: now.get(key, "none") for key in changed}, "before": before_}
        history = [*recorded.get("changes", []), change]
        run.folder.write("run.json", recorded | {"config": new, "changes": history})
        replace(run.path / "config.toml", dumps(new))
    finally:
        run.folder.unlock()


def _paths(component: Component) -> Iterator[str]:
    """The options of a component that are places of files."""
    for name, option in options_of(type(component)).items():
        if option.type in (Path, Path | None):
            yield name
