"""Fixtures for the tests of plugins. `pytest_plugins = ["sslx.testing.fixtures"]` in a conftest.py loads them."""

from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sslx.core import signals
from sslx.plugins import registry as _registry
from sslx.plugins.registry import Registry


class Done(NamedTuple):
    """The result of a command."""

    code: int
    output: str
    errors: str


@pytest.fixture
def sslx_cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Done]:
    """`sslx_cli("run", "-p", "foo", ...)` runs a command in this process, in tmp_path."""
    (command,) = distribution("sslx").entry_points.select(group="console_scripts", name="sslx")
    main = command.load()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signals, "install", lambda: None)

    def run(*arguments: str) -> Done:
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        captured = capsys.readouterr()
        assert isinstance(exit.value.code, int)
        return Done(exit.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def sslx_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry with only sslx's own plugins, to which `sslx_registry.add("sslx-foo", module)` adds one."""
    ours = [each for each in _registry.installed() if each[1].distribution == "sslx"]
    monkeypatch.setattr(_registry, "installed", lambda: ours)
    _registry.registry.cache_clear()
    yield _registry.registry()
    _registry.registry.cache_clear()


@pytest.fixture
def sslx_images(tmp_path: Path) -> Path:
    """A folder of tiny colour images in two classes, 20 red and 20 blue, for `--dataset folder:PATH`."""
    import numpy
    from PIL import Image

    root, random = tmp_path / "images", numpy.random.default_rng(0)
    for channel, name in ((0, "red"), (2, "blue")):
        (root / name).mkdir(parents=True)
        for i in range(20):
            pixels: Any = random.integers(0, 128, (8, 8, 3), dtype=numpy.uint8)
            pixels[:, :, channel] += 127
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root
