"""The part of the core that plugins use, as `sslx.api` offers it. Imports torch."""

from sslx.core.capabilities import (
    Clusters as Clusters,
    Decodes as Decodes,
    Diagnoses as Diagnoses,
    HasDensity as HasDensity,
    Reconstructs as Reconstructs,
    Samples as Samples,
    can as can,
)
from sslx.core.data import (
    Lazy as Lazy,
    Source as Source,
    Split as Split,
    pixels as pixels,
)
from sslx.core.distributions import (
    Delta as Delta,
    diagonal_normal as diagonal_normal,
)
from sslx.core.errors import (
    CheckpointError as CheckpointError,
    ConfigError as ConfigError,
    DataError as DataError,
    NonFiniteError as NonFiniteError,
    PluginError as PluginError,
    SslxError as SslxError,
)
from sslx.core.interfaces import (
    Constraint as Constraint,
    Context as Context,
    Dataset as Dataset,
    Decoder as Decoder,
    Encoder as Encoder,
    Energy as Energy,
    Evaluation as Evaluation,
    Evaluator as Evaluator,
    Features as Features,
    Likelihood as Likelihood,
    Loader as Loader,
    Method as Method,
    Module as Module,
    Objective as Objective,
    Optimizer as Optimizer,
    Posterior as Posterior,
    Prior as Prior,
    Result as Result,
    Tracker as Tracker,
    ViewPolicy as ViewPolicy,
)
from sslx.core.options import (
    Component as Component,
    option as option,
    slot as slot,
)
from sslx.core.predicate import (
    Predicate as Predicate,
    logsumexp as logsumexp,
)
from sslx.core.processes import (
    gather as gather,
)
from sslx.core.randomness import (
    Use as Use,
    bits as bits,
    key as key,
    mix as mix,
    permutation as permutation,
    seed_of as seed_of,
    uniform as uniform,
)
from sslx.core.terms import (
    Term as Term,
    Terms as Terms,
)
from sslx.core.views import (
    Views as Views,
)
