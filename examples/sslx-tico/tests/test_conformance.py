from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sslx.testing import Check, parametrize_with_checks

FAILURES = {"overfits_one_batch": "the loss rises with the covariance, which begins at zero"}


@parametrize_with_checks("sslx-tico", expected_failures={"method:tico": FAILURES})
def test_conformance(check: Check) -> None:
    check()


def test_the_command_of_the_readme_runs(sslx_cli: Callable[..., Any]) -> None:
    done = sslx_cli("run", "--plugin", "tico", "--epochs", "1", "--subset", "64")
    assert done.code == 0, done.errors
