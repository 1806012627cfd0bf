"""What `import sslx` offers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

from sslx.core import options as _options
from sslx.core.errors import ConfigError, nearest
from sslx.core.interfaces import (
    INTERFACES,
    Constraint,
    Dataset,
    Decoder,
    Encoder,
    Energy,
    Evaluator,
    Likelihood,
    Loader,
    Method,
    Objective,
    Optimizer,
    Posterior,
    Prior,
    Tracker,
    ViewPolicy,
)
from sslx.core.training.run import Run as Run
from sslx.outputs.formats import Comparison
from sslx.outputs.tables import tables
from sslx.representation import Representation as Representation
from sslx.runs.grid import opened
from sslx.runs.session import evaluate as evaluate, open_run as open_run, resume as resume, run as run


@overload
def make(kind: Literal["method"], component: str | type[Method], /, **options: Any) -> Method: ...
@overload
def make(kind: Literal["encoder"], component: str | type[Encoder], /, **options: Any) -> Encoder: ...
@overload
def make(kind: Literal["posterior"], component: str | type[Posterior], /, **options: Any) -> Posterior: ...
@overload
def make(kind: Literal["decoder"], component: str | type[Decoder], /, **options: Any) -> Decoder: ...
@overload
def make(kind: Literal["likelihood"], component: str | type[Likelihood], /, **options: Any) -> Likelihood: ...
@overload
def make(kind: Literal["prior"], component: str | type[Prior], /, **options: Any) -> Prior: ...
@overload
def make(kind: Literal["objective"], component: str | type[Objective], /, **options: Any) -> Objective: ...
@overload
def make(kind: Literal["energy"], component: str | type[Energy], /, **options: Any) -> Energy: ...
@overload
def make(kind: Literal["constraint"], component: str | type[Constraint], /, **options: Any) -> Constraint: ...
@overload
def make(kind: Literal["dataset"], component: str | type[Dataset], /, **options: Any) -> Dataset: ...
@overload
def make(kind: Literal["loader"], component: str | type[Loader], /, **options: Any) -> Loader: ...
@overload
def make(kind: Literal["views"], component: str | type[ViewPolicy], /, **options: Any) -> ViewPolicy: ...
@overload
def make(kind: Literal["optimizer"], component: str | type[Optimizer], /, **options: Any) -> Optimizer: ...
@overload
def make(kind: Literal["evaluator"], component: str | type[Evaluator], /, **options: Any) -> Evaluator: ...
@overload
def make(kind: Literal["tracker"], component: str | type[Tracker], /, **options: Any) -> Tracker: ...
@overload
def make(kind: str, component: str | type, /, **options: Any) -> Any: ...
def make(kind: str, component: str | type, /, **options: Any) -> Any:
    """Any component by name: `sslx.make("prior", "mixture", components=20)`.

    Args:
        kind: "method", "encoder", "prior", "dataset" or another kind that `sslx plugins list` shows.
        component: its name, as on the command line, or its class.
        options: its options; a part is a name, a table of options with the name under "use", a class or an object.

    Raises:
        ConfigError: with one line for each mistake.
    """
    if kind not in INTERFACES:
        raise ConfigError(f"there is no kind {kind!r} of component{nearest(kind, INTERFACES)}")
    return _options.make(INTERFACES[kind], {"use": component, **options}, kind)


def compare(*runs: Run | Path | str, scores: Sequence[str] = ()) -> Comparison:
    """One table for each dataset, of runs and grids: `print(sslx.compare("first", "second"))`.

    Args:
        runs: runs, or their folders.
        scores: columns, as `sslx compare --scores` takes them; by default all.
    """
    found = [each for run in runs for each in ([run] if isinstance(run, Run) else opened([run]))]
    return Comparison(tables(found, scores))
