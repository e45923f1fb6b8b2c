"""docs/errors.md lists every error code of the program, and no other."""

from __future__ import annotations

import ast
import gc
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "tallystick").rglob("*.py"))
ERRORS = {"TallyError", "BadInput", "Problems", "NotFound", "Conflict", "Unauthorized", "Forbidden", "Unavailable"}
RECEIPT = "Receipt"  # what the ledger says of an event; it carries a code where it was not taken
CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
Callers = dict[tuple[Path | None, str], int | str]
"""By function or class, private ones with their file: at which place, or under which name, calls say a code."""


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, ast.FunctionDef | ast.AsyncFunctionDef | None]]:
    """Every call in the tree, with the innermost function that it is in."""

    waiting: list[tuple[ast.AST, ast.FunctionDef | ast.AsyncFunctionDef | None]] = [(tree, None)]
    while waiting:
        node, inside = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = node
        if isinstance(node, ast.Call):
            yield node, inside
        waiting += [(child, inside) for child in ast.iter_child_nodes(node)]


def name_of(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def code_argument(call: ast.Call, place: int | str) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg in ("code", place):
            return keyword.value
    return call.args[place] if isinstance(place, int) and len(call.args) > place else None


def literals(node: ast.expr | None) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from literals(body)
            yield from literals(orelse)
        case ast.BoolOp(values=values):
            for value in values:
                yield from literals(value)


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_garbage() -> Iterator[None]:
    """Looking for garbage in so many trees, again and again, takes longer than making them."""
    gc.disable()
    yield
    gc.enable()


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


@cache
def codes_in_source() -> set[str]:
    """The codes that calls of error classes name, directly or through functions that pass a code on to one."""
    made = [
        (path, key(path, name_of(call)), call, function)
        for path, tree in trees().items()
        for call, function in calls(tree)
    ]
    callers: Callers = {**{(None, name): 0 for name in ERRORS}, (None, RECEIPT): "code"}
    while True:
        found: set[str] = set()
        more: Callers = {}
        for path, called, call, function in made:
            place = callers.get(called)
            if place is None:
                continue
            argument = code_argument(call, place)
            found |= {text for text in literals(argument) if CODE.fullmatch(text)}
            if isinstance(argument, ast.Name) and function is not None:
                more |= passes_on(path, function, argument.id)
        if more.items() <= callers.items():
            return found
        callers = {**more, **callers}


def key(path: Path, name: str) -> tuple[Path | None, str]:
    return (path if name.startswith("_") else None, name)


def passes_on(path: Path, function: ast.FunctionDef | ast.AsyncFunctionDef, parameter: str) -> Callers:
    """The function as a caller, when the code it gives to an error is a parameter of its own."""
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    if parameter in (argument.arg for argument in function.args.kwonlyargs):
        return {key(path, function.name): parameter}
    if parameter not in names:
        return {}
    is_method = names[0] in ("self", "cls")
    return {key(path, function.name): names.index(parameter) - is_method}


def codes_in_docs() -> list[str]:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `([a-z0-9_]+)` \|", text, re.MULTILINE)


# Said by the frame of the API, which maps what the framework refuses, and not by an error class.
FRAME_CODES = {"internal_error", "invalid_request", "invalid_value", "method_not_allowed", "not_found"}


def test_every_code_of_the_program_is_documented():
    assert codes_in_source() - set(codes_in_docs()) == set()


def test_every_documented_code_is_one_of_the_program():
    said = {
        node.value
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(codes_in_docs()) - said == set()


def test_no_code_is_documented_twice():
    documented = codes_in_docs()
    assert len(documented) == len(set(documented))


def test_the_codes_of_the_api_itself_are_documented():
    assert set(codes_in_docs()) >= FRAME_CODES


def test_the_scan_finds_codes_that_are_passed_through_functions():
    # Were it to find none, the first test could not fail.
    assert {"invalid_month", "body_too_large", "missing_field", "unknown_org"} <= codes_in_source()
