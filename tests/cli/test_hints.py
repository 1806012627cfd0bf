"""What is meant by names that are almost right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--set temperature=0.1",
            "method.temperature: simclr has no option 'temperature' (did you mean 'objective.temp",
        ),
        ("--set crop=0.2,1", "(did you mean 'views.crop'?)"),
        ("--set knn.neighbours=3", "(did you mean 'evaluators.knn'?)"),
        ("--set objective=vicreg --set variance_weight=1", "method.variance_weight: simclr has no option"),
        ("--set objective=nothing --set temperature=1", "objective: there is no objective 'nothing'"),
        ("--set lr=0.1 --set learning_rate=1", "method.learning_rate: simclr has no option 'learning_rate'"),
        ("--encoder resnet18", "sslx: No such option '--encoder'; `--set encoder=NAME` chooses the encoder"),
        ("--epoch 3", "Did you mean"),
        ("--dataset mine", "dataset: there is no dataset 'mine' (did you mean 'folder:mine'?)"),
        ("--dataset mine/a.png", "(did you mean 'folder:mine'?)"),
        ("--dataset yours", "dataset: there is no dataset 'yours'; choose from"),
    ],
)
def test_a_hint_names_what_was_meant(words: str, said: str, command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.png").touch()
    done = command("run", "-p", "simclr", *words.split())
    assert done.code == 2 and said in done.errors and "Traceback" not in done.errors
