import io
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, redirect_stdout
from typing import Any

from sslx.api import Run, Tracker, hookimpl, option, say
from sslx.trackers.scores import scores


class Trackio(Tracker):
    """Loss terms, scores and config of a run in a project of Trackio. `trackio show` opens its dashboard.

    All data stay on this machine, unless Trackio's own variables TRACKIO_SPACE_ID or TRACKIO_SERVER_URL are set.
    A resumed run continues its record.
    """

    project: str = option(help="Project of Trackio in which the run is listed.")

    @hookimpl
    def sslx_metrics(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        self._open(run).log({name: metrics[name] for name in metrics.keys() - {"step"}}, step=step)

    @hookimpl
    def sslx_evaluated(self, run: Run, report: Mapping[str, Any]) -> None:
        last = max((record["step"] for record in run.folder.metrics()), default=0)
        self._open(run).log(scores(report), step=last)
        self._close()

    @hookimpl
    def sslx_run_end(self) -> None:
        self._close()

    def _open(self, run: Run) -> Any:
        if not hasattr(self, "_run"):
            import trackio

            name = f"{run.path.name} {run.folder.read('run.json')['started']}"  # a folder's name may return
            with _quiet():
                config = run.folder.config()
                quiet: Any = {"auto_log_gpu": False, "auto_log_cpu": False, "embed": False}
                self._run = trackio.init(self.project, name=name, config=config, resume="allow", **quiet)
            say(f"{run.path}: followed by Trackio; `trackio show --project {self.project}` opens its dashboard")
        return self._run

    def _close(self) -> None:
        if hasattr(self, "_run"):
            import trackio

            with _quiet():
                trackio.finish()
            del self._run


def _quiet() -> AbstractContextManager[object]:
    """Keep Trackio from printing escape sequences, and of uploads where there are none; standard output is for tables.

    Where it does upload, its lines say to which address.
    """
    away = any(os.environ.get(name) for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"))
    return redirect_stdout(sys.stderr if away else io.StringIO())
