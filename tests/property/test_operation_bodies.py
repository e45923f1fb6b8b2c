"""The body of an operation holds all of its request and result, in one spelling, and nothing else is read as one."""

from __future__ import annotations

import types
from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from tallystick.contract.decision import Decision, LimitLooked, NextStep, Quote
from tallystick.core.instants import format_instant
from tallystick.ledger.operation_body import REQUESTS, decode_body, encode_body, encode_part, read_body, result_type
from tallystick.ledger.operations import Authorize, Denied, WalletState

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(-(10**20), 10**20),
    bool: st.booleans(),
    datetime: INSTANTS,
    Fraction: st.integers(-(10**6), 10**6).map(lambda parts: Fraction(parts, 10**4)),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that structures of operations are made of."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return st.one_of([st.none() if one is types.NoneType else values(one) for one in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        keys = TEXT if arguments[0] is str else st.integers(-1, 10**6)
        return st.dictionaries(keys, values(arguments[1]), max_size=3)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return structs(kind)
    return PLAIN[kind]


def structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    fields = msgspec.structs.fields(kind)
    required = {field.name: values(field.type) for field in fields if field.required}
    optional = {field.name: values(field.type) for field in fields if not field.required}
    return st.fixed_dictionaries(required, optional=optional).map(
        lambda members: kind(**members) if members or not fields else kind()
    )


@st.composite
def operations(draw: st.DrawFn) -> tuple[str, Any, Any]:
    kind = draw(st.sampled_from(sorted(REQUESTS)))
    request = draw(structs(REQUESTS[kind]))
    return kind, request, draw(structs(result_type(kind, request)))


def described(value: Any) -> Any:
    """A value as the body is said to hold it."""
    if isinstance(value, msgspec.Struct):
        members = {}
        for field in msgspec.structs.fields(value):
            member = getattr(value, field.name)
            defaults = [] if field.default is msgspec.NODEFAULT else [field.default]
            defaults += [] if field.default_factory is msgspec.NODEFAULT else [field.default_factory()]
            if member not in defaults:
                members[field.name] = described(member)
        return members
    if isinstance(value, Mapping):
        return {str(key): described(member) for key, member in value.items()}
    if isinstance(value, tuple):
        return [described(member) for member in value]
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, Fraction):
        return f"{value.numerator / value.denominator:.4f}".rstrip("0").rstrip(".")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


@given(operations())
def test_a_body_is_the_described_json_and_gives_its_operation_back(operation: tuple[str, Any, Any]) -> None:
    kind, request, result = operation
    body = encode_body(request, result)
    assert body == rfc8785.dumps({"request": described(request), "result": described(result)})
    assert decode_body(kind, body) == (request, result)
    assert decode_body(kind, body.decode()) == read_body(kind, body) == (request, result)


def _spelled_otherwise(value: Any, data: st.DataObject) -> Any:
    """The same with one string of digits in it as a number, or with a null more."""
    if isinstance(value, dict):
        if not value or data.draw(st.booleans()):
            return {**value, "zzz": None}
        name = data.draw(st.sampled_from(sorted(value)))
        return {**value, name: _spelled_otherwise(value[name], data)}
    if isinstance(value, list):
        return [*value, None]
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() else value + " "
    return [value]


@given(operations(), st.data())
def test_what_is_spelled_otherwise_is_no_body(operation: tuple[str, Any, Any], data: st.DataObject) -> None:
    kind, request, result = operation
    body = encode_body(request, result)
    parsed = msgspec.json.decode(body)
    other = msgspec.json.encode(_spelled_otherwise(parsed, data), order="deterministic")
    turned = msgspec.json.encode({"result": parsed["result"], "request": parsed["request"]})
    for wrong in (other, turned, msgspec.json.format(body, indent=1), body + b" ", body[:-1]):
        try:
            again = decode_body(kind, wrong)
        except (ValueError, TypeError):
            continue
        # another text or amount in a place where any may stand
        assert again != (request, result) or wrong == body
        assert encode_body(*again) == wrong


def test_a_body_of_another_kind_is_none(subtests: pytest.Subtests) -> None:
    body = b'{"request":{"hold_seq":"7","reason":null},"result":{}}'
    for kind in ("hold", "usage", "", "settlement"):
        with subtests.test(kind=kind), pytest.raises(ValueError, match=r".+"):
            decode_body(kind, body)


LOOKED = LimitLooked(
    name="x", what="limit", kind="soft", per="day", used=0, held=0, requested=1, max=3, exceeded=False,
    resets_at=datetime(2026, 11, 1, tzinfo=UTC), warned_at=Fraction(4, 5),
)  # fmt: skip
DECISION = Decision(
    allow=False,
    code="unknown_plan",
    message="x",
    next_step=NextStep(kind="contact", text="x"),
    limits=(LOOKED,),
    quote=Quote(credits_pico=0, reserve_pico=0, worst_cost_pico=None),
    contract="c",
    contract_version="1",
    contract_sha256="00",
    plan="p",
)


@pytest.mark.parametrize("text", ['"1/0"', '"1e999999999"', '"½"', "0.5", "true", "[]", "null"])
def test_what_is_no_decimal_is_not_read_as_a_fraction(text: str) -> None:
    body = encode_body(
        Authorize(feature="f", environment="e"),
        Denied(decision=DECISION, wallet=WalletState(available_pico=0, held_pico=0)),
    )
    assert decode_body("denial", body)[1].decision.limits == (LOOKED,)
    with pytest.raises(ValueError, match=r".+"):
        decode_body("denial", body.replace(b'"warned_at":"0.8"', b'"warned_at":' + text.encode()))


def test_fractions_that_are_no_decimals_are_not_written() -> None:
    looked = msgspec.structs.replace(LOOKED, warned_at=Fraction(1, 3))
    with pytest.raises(ValueError, match="no decimal"):
        encode_part(looked)
    half = msgspec.structs.replace(looked, warned_at=Fraction(1, 2))
    assert b'"warned_at":"0.5"' in encode_part(half)
