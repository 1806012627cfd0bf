"""The part of the core that plugins use, which these modules list in `__all__`. Imports torch."""

from sslx.core.capabilities import *
from sslx.core.chunks import *
from sslx.core.console import *
from sslx.core.data import *
from sslx.core.distributions import *
from sslx.core.errors import *
from sslx.core.gather import *
from sslx.core.interfaces import *
from sslx.core.options import *
from sslx.core.randomness import *
from sslx.core.team import *
from sslx.core.terms import *
from sslx.core.views import *
