"""What `import sslx` offers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

from sslx.core import interfaces as _of, options as _options
from sslx.core.errors import ConfigError, nearest
from sslx.core.training.run import Run as Run
from sslx.outputs.formats import Comparison
from sslx.outputs.tables import tables
from sslx.representation import Representation as Representation
from sslx.runs.grid import opened
from sslx.runs.library import load as load, score as score, views as views
from sslx.runs.session import evaluate as evaluate, open_run as open_run, resume as resume, run as run


@overload
def make(kind: Literal["method"], component: str | type[_of.Method], /, **options: Any) -> _of.Method: ...
@overload
def make(kind: Literal["encoder"], component: str | type[_of.Encoder], /, **options: Any) -> _of.Encoder: ...
@overload
def make(kind: Literal["posterior"], component: str | type[_of.Posterior], /, **options: Any) -> _of.Posterior: ...
@overload
def make(kind: Literal["decoder"], component: str | type[_of.Decoder], /, **options: Any) -> _of.Decoder: ...
@overload
def make(kind: Literal["likelihood"], component: str | type[_of.Likelihood], /, **options: Any) -> _of.Likelihood: ...
@overload
def make(kind: Literal["prior"], component: str | type[_of.Prior], /, **options: Any) -> _of.Prior: ...
@overload
def make(kind: Literal["objective"], component: str | type[_of.Objective], /, **options: Any) -> _of.Objective: ...
@overload
def make(kind: Literal["energy"], component: str | type[_of.Energy], /, **options: Any) -> _of.Energy: ...
@overload
def make(kind: Literal["constraint"], component: str | type[_of.Constraint], /, **options: Any) -> _of.Constraint: ...
@overload
def make(kind: Literal["dataset"], component: str | type[_of.Dataset], /, **options: Any) -> _of.Dataset: ...
@overload
def make(kind: Literal["loader"], component: str | type[_of.Loader], /, **options: Any) -> _of.Loader: ...
@overload
def make(kind: Literal["views"], component: str | type[_of.ViewPolicy], /, **options: Any) -> _of.ViewPolicy: ...
@overload
def make(kind: Literal["optimizer"], component: str | type[_of.Optimizer], /, **options: Any) -> _of.Optimizer: ...
@overload
def make(kind: Literal["evaluator"], component: str | type[_of.Evaluator], /, **options: Any) -> _of.Evaluator: ...
@overload
def make(kind: Literal["tracker"], component: str | type[_of.Tracker], /, **options: Any) -> _of.Tracker: ...
@overload
def make(kind: str, component: str | type, /, **options: Any) -> Any: ...
def make(kind: str, component: str | type, /, **options: Any) -> Any:
    """Any component by name: `sslx.make("prior", "mixture", components=20)`.

    An objective is also a loss of two batches of embeddings (N, D): `sslx.make("objective", "info-nce")(z1, z2)`.

    Args:
        kind: "method", "encoder", "prior", "dataset" or another kind that `sslx plugins list` shows.
        component: its name, as on the command line, or its class.
        options: its options; a part is a name, a table of options with the name under "use", a class or an object.

    Raises:
        ConfigError: with one line for each mistake.
    """
    if kind not in _of.INTERFACES:
        raise ConfigError(f"there is no kind {kind!r} of component{nearest(str(kind), _of.INTERFACES)}")
    return _options.make(_of.INTERFACES[kind], {"use": component, **options}, kind)


def compare(
    *runs: Run | Path | str, scores: Sequence[str] | str = (), sort_by: str = "", relative_to: str = ""
) -> Comparison:
    """One table for each dataset, of runs and grids: `print(sslx.compare("first", "second"))`.

    Args:
        runs: runs, or their folders.
        scores: columns, as a list or as text with commas, as `sslx compare --scores` takes them; by default all.
        sort_by: a score, or an evaluator for its first one; the best row comes first.
        relative_to: a row; all others then show by how much their scores differ from its own.

    Raises:
        ConfigError: no run has such a score, or a table has no such row.
    """
    found = [each for run in runs for each in ([run] if isinstance(run, Run) else opened([run]))]
    wanted = scores.split(",") if isinstance(scores, str) else scores
    return Comparison(tables(found, [each for each in wanted if each], sort_by, relative_to))
