"""Rules written for ProbLog, which grounds them once; torch evaluates them for a whole batch."""

import contextlib
import functools
import importlib.util
import json
import math
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslx.api import ConfigError, Constraint, PluginError, logsumexp, option, say

if importlib.util.find_spec("problog") is None:
    raise PluginError('rules for ProbLog need the extra `nesy`: pip install "sslx[nesy]"')

_LONGEST = 1_000_000  # characters of a program
_BYTES = 2_000_000_000  # memory of the process that compiles
_GRACE = 3  # seconds after which the process is ended if it has not ended itself
_EVERY = 5  # seconds between lines of progress
_CHILD = """
import json, sys
sys.path[:], sys.dont_write_bytecode = json.loads(sys.argv[1])
from sslx.ssl_methods.constraints.grounding import main
main()
"""


class ProbLog(Constraint):
    """A rule written for ProbLog: the exact probability of one query (De Raedt et al. 2007).

    Images are neural predicates (DeepProbLog, Manhaeve et al. 2018):

        nn(digit, [X], Y, [0..9]) :: digit(X, Y).

    says that image X, numbered from 0 in its set, shows one of these digits: an annotated disjunction whose
    probabilities the network gives. Facts and rules, with or without probabilities, negation and ProbLog's libraries
    can be used. Nothing is pruned, however improbable. The rules are compiled in a process of their own, which has 2 GB
    of memory.
    """

    domains = tuple[int, ...]()  # known once the rules are read
    rules: str = option(help="Program in ProbLog, or the path of a .pl file with it.")
    seconds: float = option(default=10.0, gt=0, le=86_400, help="Longest time for compiling the rules, in seconds.")

    def __attrs_post_init__(self) -> None:
        where = "rules"
        if self.rules.endswith(".pl") and "\n" not in self.rules:
            where = self.rules
            self.rules = _text(Path(where).expanduser())  # keep the text: a run must not change with the file
        if len(self.rules) > _LONGEST:
            raise ConfigError(f"{where}: expected at most {_LONGEST} characters, got {len(self.rules)}")
        compiled = _compiled(self.rules, self.seconds, where)
        if "error" in compiled:
            raise ConfigError(f"{where}: {compiled['error']}")
        self.domains, self._images = tuple(compiled["domains"]), compiled["images"]
        for level, (layer, p) in enumerate(zip(compiled["layers"], compiled["facts"], strict=True)):
            self.register_buffer(f"children{level}", torch.tensor(layer), persistent=False)
            if p is not None:
                self.register_buffer(f"log_p{level}", _probabilities(p, where).log(), persistent=False)

    def log_prob(self, log_p: Sequence[Tensor]) -> Tensor:
        value = log_p[0].new_tensor([-torch.inf, 0.0]).expand(len(log_p[0]), 2)  # (B, nodes), from the leaves up
        for level, image in reversed(list(enumerate(self._images))):
            p = self.get_buffer(f"log_p{level}").to(value) if image is None else log_p[image]
            value = logsumexp(value[:, self.get_buffer(f"children{level}")] + p[..., None, :])
        return value[:, 0]


def _text(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path}: is not a regular file")
        if path.stat().st_size > 4 * _LONGEST:
            raise ConfigError(f"{path}: expected at most {_LONGEST} characters, got {path.stat().st_size} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


@functools.lru_cache(16)  # a run makes its constraint more than once
def _compiled(rules: str, seconds: float, where: str) -> dict[str, Any]:
    """The rules as `grounding` compiles them, or what is wrong with them as `error`."""
    command = [sys.executable, "-I", "-c", _CHILD, json.dumps([sys.path, sys.dont_write_bytecode])]
    job: str | None = json.dumps({"rules": rules, "seconds": seconds, "bytes": _BYTES})
    started, pipe = time.monotonic(), subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            while (spent := time.monotonic() - started) < seconds + _GRACE:
                if spent > 1:
                    say(f"{where}: compiling the rules for {spent:.0f} s, at most {seconds:g} s")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    answer, said = process.communicate(job, timeout=min(_EVERY, seconds + _GRACE - spent))
                    break
                job = None  # it is sent
            else:
                return {
                    "error": f"a single goal takes more than {seconds:g} s; make it smaller, or set a larger `seconds`"
                }
        finally:
            process.kill()
    if process.returncode:
        return {"error": f"it cannot be compiled: {said.strip().rpartition(chr(10))[2] or process.returncode}"}
    return dict(json.loads(answer))


def _probabilities(p: Sequence[float], where: str) -> Tensor:
    """Probabilities of the values of a fact, and that of none of them: (values + 1,) float64."""
    rest = 1 - math.fsum(p)
    if min(p) < 0 or rest < -1e-9:
        raise ConfigError(f"{where}: expected probabilities that sum to at most 1, got {', '.join(map(str, p))}")
    return torch.tensor([*p, max(rest, 0.0)], dtype=torch.float64)
