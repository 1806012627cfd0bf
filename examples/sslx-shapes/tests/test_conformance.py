from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sslx.testing import Check, parametrize_with_checks


@parametrize_with_checks("sslx-shapes")
def test_conformance(check: Check) -> None:
    check()


def test_the_command_of_the_readme_runs(sslx_cli: Callable[..., Any]) -> None:
    data = ("--dataset", "shapes", "--subset", "64", "--epochs", "1")
    done = sslx_cli("run", "--plugin", "simvae", *data, "--evaluators", "mig,linear")
    assert done.code == 0, done.errors
