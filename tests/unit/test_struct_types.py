"""Types that JSON is read into are worked out when modules are imported: two threads may be the first to read."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import tallystick

ROOT = Path(tallystick.__file__).parent
READERS = ("msgspec.json.decode", "msgspec.convert", "msgspec.json.Decoder")

FIRST_AT_ONCE = """
import sys, threading
sys.setswitchinterval(1e-6)
import msgspec
from tallystick.invoice.model import Invoice
barrier = threading.Barrier(8)
def read():
    barrier.wait()
    try:
        msgspec.json.decode(b'{"lines": [{}]}', type=Invoice)
    except msgspec.ValidationError:
        pass
threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_threads_that_are_the_first_to_read_an_invoice_do_not_end_the_process() -> None:
    for _ in range(4):
        assert subprocess.run([sys.executable, "-c", FIRST_AT_ONCE], check=False).returncode == 0


@cache
def worked_out() -> frozenset[Any]:
    """What modules have worked out while they are imported: the arguments of `work_out` outside of functions."""
    found = set()
    for path in ROOT.rglob("*.py"):
        module = ".".join(("tallystick", *path.relative_to(ROOT).with_suffix("").parts))
        for line in ast.parse(path.read_text()).body:
            if isinstance(line, ast.Expr) and ast.unparse(line).startswith("work_out("):
                found |= set(eval(f"({ast.unparse(line)[9:-1]},)", vars(import_module(module))))
    return frozenset(found)


def read_in_functions() -> Iterator[tuple[str, str]]:
    """Every module, and every type in it that a function reads JSON into."""
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(("tallystick", *path.relative_to(ROOT).with_suffix("").parts))
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for call in ast.walk(function):
                    if isinstance(call, ast.Call) and ast.unparse(call.func) in READERS:
                        named = [one.value for one in call.keywords if one.arg == "type"]
                        named += call.args[1:2] if "convert" in ast.unparse(call.func) else []
                        named += call.args[:1] if "Decoder" in ast.unparse(call.func) else []
                        yield from ((module, one.id) for one in named if isinstance(one, ast.Name))


def structs_of(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """The structs that a type names."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for part in get_args(kind):
        yield from structs_of(part)


@pytest.mark.parametrize(("module", "name"), sorted(set(read_in_functions())))
def test_what_functions_read_json_into_is_worked_out_before(module: str, name: str) -> None:
    kind = getattr(import_module(module), name, None)  # None: an argument of the function, which the caller names
    assert worked_out() >= set(structs_of(kind)), f"work_out({name}) in {module}, at its import"
