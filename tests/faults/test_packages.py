"""Plugin packages with a fault each: they are listed with the reason, hurt no other, and end in one line when used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HEAD = "from sslx.api import *\nfrom sslx.api import hookimpl, method, prior\n"
RAISED = (
    "Exception('x')", "KeyError('x')", "RecursionError()", "MemoryError()", "SystemExit(3)", "KeyboardInterrupt()",
    "GeneratorExit()", "BaseException('x')", "UnicodeDecodeError('utf-8', b'x', 0, 1, 'x')", "ImportError('x')",
    "OSError(5, 'x')", "StopIteration()", "AssertionError()", "type('PanicException', (BaseException,), {})('x')",
)  # fmt: skip
MODULES = (
    "import nothing_of_this_name", "def", "\0", "from sslx.api import nothing", "1 / 0", "x = [" * 200,
    "import sys; sys.exit()", "import sys; sys.modules[__name__] = None", "from {module} import x", "raise",
    "del __name__", "__path__ = 5", "import os; os.chdir('/')", "async def f(:", "\t x = 1", "class X(metaclass=5): pass",
)  # fmt: skip
YIELDED = (
    "5", "None", "'method'", "('method', 'x')", "method", "method()", "method('x')", "method('X', 'a:B')",
    "method('x y', 'a:B')", "method('x', 'a')", "method('x', 'a.b')", "method('x', 5)", "method(5, 'a:B')",
    "method('x', 'a:B', summary=5)", "method('x', 'a:B', paper=None)", "method('x', 'a:B', colour=1)",
    "Record('nothing', 'x', 'a:B')", "method('x' * 10**6, 'a:B')", "iter(5)", "[method('x', 'a:B')]",
)  # fmt: skip
HOOKS = (
    "@hookimpl\ndef sslx_components(nothing):\n    yield 1\n",
    "@hookimpl\ndef sslx_components():\n    return 5\n",
    "@hookimpl\ndef sslx_components():\n    return None\n",
    "@hookimpl\nasync def sslx_components():\n    yield 1\n",
    "@hookimpl\ndef sslx_nothing():\n    pass\n",
    "def sslx_components():\n    yield 1\n",
    "sslx_components = hookimpl(5)\n",
    "@hookimpl\ndef sslx_components():\n    yield method('twice', 'a:B')\n    yield method('twice', 'a:B')\n",
)
COMPONENTS = (
    "X = 5", "def X(): pass", "class X: pass", "class X(Method): pass", "class X(Prior): pass", "import nothing",
    "class X(Method):\n    a: int = 5", "class X(Method):\n    a: list = option(default=(), help='x')",
    "class X(Method):\n    a = option(default=1, help='x')", "class X(Method):\n    a: int = option(default='x', help='x')",
    "class X(Method):\n    a: int = option(help='x')\n    def forward(self, v): ...\n    def represent(self, x): ...",
    "class X(Method):\n    p: Prior = slot(default='nothing', help='x')\n    def forward(self, v): ...\n"
    "    def represent(self, x): ...",
    "class X(JointEmbedding, objectiv=1): pass", "class X(JointEmbedding, projector='x'): pass",
    "raise SystemExit(1)", "raise KeyboardInterrupt", "class X(Method, Prior): pass", "class Y(Method): pass",
)  # fmt: skip
#: Bodies of a method that trains: what its functions do.
BODIES = (
    ("return None", "return x.flatten(1)"), ("return 5", "return x.flatten(1)"), ("raise ValueError('x')", "return x"),
    ("return Terms()", "return x.flatten(1)"), ("return Terms(a=5)", "return x.flatten(1)"),
    ("return Terms(a=torch.zeros(3))", "return x.flatten(1)"), ("return Terms(a=torch.zeros(()))", "return x.flatten(1)"),
    ("return Terms(loss=self.w.sum())", "return x.flatten(1)"), ("return Terms(a=self.w.sum() / 0)", "return x.flatten(1)"),
    ("return Terms(a=self.w.sum())", "return x"), ("return Terms(a=self.w.sum())", "return None"),
    ("return Terms(a=self.w.sum())", "raise SystemExit(1)"), ("return Terms(a=self.w.sum())", "return x.flatten(1)[:1]"),
    ("return Terms(a=self.w.sum())", "return x.flatten(1) * float('nan')"), ("raise SystemExit(1)", "return x"),
    ("raise KeyboardInterrupt", "return x"), ("return v", "return x"), ("return self.w @ v.flat", "return x"),
)  # fmt: skip
METHOD = (
    HEAD + "import torch\nclass X(Method):\n    'A method.'\n    def build(self, ctx):\n"
    "        self.w = torch.nn.Parameter(torch.ones(3))\n        return ctx\n    def forward(self, v):\n        {forward}\n"
    "    def represent(self, x):\n        {represent}\n"
)
RECORD = (
    "from sslx.api import hookimpl, method\n@hookimpl\ndef sslx_components():\n    yield method('{name}', '{code}:X')\n"
)


def test_packages_with_faults_are_listed_with_the_reason(install: Callable[..., Path], here: Any) -> None:
    codes = [f"raise {error}" for error in RAISED] + list(MODULES)
    codes += [f"{HEAD}@hookimpl\ndef sslx_components():\n    raise {error}\n    yield\n" for error in RAISED]
    codes += [f"{HEAD}@hookimpl\ndef sslx_components():\n    yield {value}\n" for value in YIELDED]
    codes += [HEAD + hook for hook in HOOKS]
    names = [f"sslx-fault{number}" for number in range(len(codes))]
    for name, code in zip(names, codes, strict=True):
        install(name, code.replace("{module}", name.replace("-", "_")))
    install("sslx-good", RECORD.format(name="good", code="good_code"))
    code, output, errors = here("plugins", "list")
    assert code == 0 and "Traceback" not in output + errors and "\0" not in output
    lines = {line.split()[0]: line for line in output.splitlines() if line.startswith(("fault", "good"))}
    assert len(codes) >= 60 and lines.keys() == {name.removeprefix("sslx-") for name in (*names, "sslx-good")}
    harmless = {"import os; os.chdir('/')", "__path__ = 5", "del __name__", "import sys; sys.modules[__name__] = None"}
    for name, text in zip(names, codes, strict=True):
        line = lines[name.removeprefix("sslx-")]
        fine = (
            text in harmless
            or "return" in text
            or "[method(" in text
            or "def sslx_components():\n    yield 1\n" in text
        )
        assert fine or " broken " in line, (text, line)
    assert "1 components" in lines["good"]


@pytest.mark.parametrize("part", range(3))
def test_components_with_faults_end_in_a_line(part: int, install: Callable[..., Path], here: Any) -> None:
    codes = [HEAD + code for code in COMPONENTS]
    codes += [METHOD.format(forward=forward, represent=represent) for forward, represent in BODIES]
    assert len(codes) >= 30
    mine = list(enumerate(codes))[part::3]
    for number, text in mine:
        site = install(f"sslx-part{number}", RECORD.format(name=f"part{number}", code=f"sslx_part{number}_code"))
        (site / f"sslx_part{number}_code.py").write_text(text)
    for number, text in mine:
        arguments = ("--epochs", "1", "--subset", "64", "-e", "knn", "--device", "cpu", "-o", f"run{number}")
        code, _, errors = here("run", "-p", f"part{number}", *arguments)
        said = [line for line in errors.splitlines() if line.startswith("sslx: ")]
        assert code in (1, 2) and said and len(said) <= 3, (text, errors)
        assert "Traceback" not in errors, text
