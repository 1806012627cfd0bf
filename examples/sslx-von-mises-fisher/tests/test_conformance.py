from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sslx.testing import Check, parametrize_with_checks


@parametrize_with_checks("sslx-von-mises-fisher")
def test_conformance(check: Check) -> None:
    check()


def test_the_command_of_the_readme_runs(sslx_cli: Callable[..., Any]) -> None:
    done = sslx_cli("run", "--plugin", "simvae", "--set", "prior=von-mises-fisher", "--epochs", "1", "--subset", "64")
    assert done.code == 0, done.errors
