from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from sslx.api import Run, Tracker, hookimpl
from sslx.trackers.scores import scores


class TensorBoard(Tracker):
    """Loss terms, scores and pictures of a run in its folder `tensorboard`. `tensorboard --logdir runs` shows them."""

    @hookimpl
    def sslx_run_start(self, run: Run) -> None:
        self._open(run).add_text("config", f"```toml\n{(run.path / 'config.toml').read_text()}```")

    @hookimpl
    def sslx_metrics(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        writer = self._open(run)
        for name in metrics.keys() - {"step"}:
            writer.add_scalar(f"train/{name}", metrics[name], step)

    @hookimpl
    def sslx_evaluated(self, run: Run, report: Mapping[str, Any]) -> None:
        writer = self._open(run)
        for name, value in scores(report).items():
            writer.add_scalar(name, value)
        for path in run.path.glob("*.png"):
            writer.add_image(path.stem, np.asarray(Image.open(path).convert("RGB")), dataformats="HWC")
        writer.flush()

    @hookimpl
    def sslx_run_end(self, run: Run) -> None:
        self._open(run).close()

    def _open(self, run: Run) -> Any:
        """The writer, made when it is first needed, because `sslx eval` starts no run."""
        if not hasattr(self, "_writer"):
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(run.path / "tensorboard"))
        return self._writer
