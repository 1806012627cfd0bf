"""Checks of a distribution as a whole: how it is discovered, and what it requires."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import requires
from typing import Any

import attrs

from sslx.plugins.hookspecs import GROUP
from sslx.plugins.registry import Plugin

_SECONDS = 0.05  # of processor time for all plugins of a distribution


@attrs.frozen
class Distribution:
    name: str
    plugins: list[Plugin]


def plugins_are_loaded(dist: Distribution) -> None:
    """No plugin is broken, disabled or built for another API."""
    wrong = [f"{plugin.name}: {plugin.status}, {plugin.reason}" for plugin in dist.plugins if plugin.status != "ok"]
    assert not wrong, "; ".join(wrong)


def discovery_imports_no_torch(dist: Distribution) -> None:
    """Discovery imports neither torch nor numpy, as even `sslx --help` discovers every installed plugin."""
    heavy = {"torch", "numpy"} & set(_discovery(dist)["modules"])
    assert not heavy, f"yielding records imports {' and '.join(sorted(heavy))}: keep components in other modules"


def discovery_takes_less_than_50_ms(dist: Distribution) -> None:
    """Discovery is fast: the better of two measurements counts, as the first one may compile modules to bytecode."""
    seconds = min(_discovery(dist)["seconds"] for _ in range(2))
    assert seconds < _SECONDS, f"yielding records takes {1000 * seconds:.0f} ms"


def sslx_is_required_with_bounds(dist: Distribution) -> None:
    """The requirement is like `sslx>=0.1,<0.2`, so that the installer refuses an sslx that is too old or too new."""
    if dist.name == "sslx":
        return
    found = [line for line in requires(dist.name) or () if re.match(r"sslx\s*([\[(<>=!~;,]|$)", line)]
    bounded = any(("<" in line and ">" in line) or "~=" in line or "==" in line for line in found)
    assert bounded, f"{dist.name} requires {found or 'no sslx'}; expected bounds, such as sslx>=0.1,<0.2"


_CODE = """
import json, sys, time
from importlib.metadata import distribution
import sslx.api
points = [p for p in distribution(sys.argv[1]).entry_points if p.group == sys.argv[2]]
before, start = set(sys.modules), time.process_time()
for point in points:
    module = point.load()
    list(module.sslx_components()) if hasattr(module, "sslx_components") else None
seconds = time.process_time() - start
print(json.dumps({"seconds": seconds, "modules": sorted(set(sys.modules) - before)}))
"""


def _discovery(dist: Distribution) -> dict[str, Any]:
    """The seconds that discovery takes in a process of its own, and the modules that it imports."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", _CODE, dist.name, GROUP]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


CHECKS = (
    plugins_are_loaded,
    discovery_imports_no_torch,
    discovery_takes_less_than_50_ms,
    sslx_is_required_with_bounds,
)
