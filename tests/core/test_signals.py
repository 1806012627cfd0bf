"""What a signal does before, during and after a command. Whole runs that are stopped are in test_resume."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import click
import pytest

from sslx import cli
from sslx.core import signals


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The handlers of sslx, with nothing received."""
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    monkeypatch.setattr(signals, "_received", None)
    for name in before:
        signal.signal(name, signals._handle)
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


def test_the_second_ctrl_c_stops_at_once_and_sigterm_never_does(installed: None) -> None:
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signals.received() == "SIGTERM"
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_command_that_is_stopped_at_once_exits_with_130_and_a_plugin_of_that_kind_with_1(
    installed: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise click.Abort from KeyboardInterrupt("of a plugin")

    monkeypatch.setattr(signals, "install", lambda: None)
    monkeypatch.setattr(cli.cli, "main", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main(["run"])
    assert ended.value.code == 1 and "KeyboardInterrupt" in capsys.readouterr().err
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        cli.main(["run"])
    assert ended.value.code == 130 and not capsys.readouterr().err
