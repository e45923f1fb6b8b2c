"""What workers hand to each other arrives as it was."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from property.test_operation_bodies import TEXT, operations, structs
from tallystick.core.errors import BadInput, Conflict, NotFound, TallyError, Unavailable
from tallystick.ledger.operation_message import answer_message, operation_message, read_answer, read_operation
from tallystick.ledger.operations import Operation, Recorded, SettleEvent
from tallystick.ledger.receipt import Receipt


def _members(one: object) -> dict[str, Any]:
    assert isinstance(one, Operation | Recorded)
    kind = Operation if isinstance(one, Operation) else Recorded
    return {name: getattr(one, name) for name in kind.__struct_fields__}


@given(operations(), TEXT, st.lists(structs(SettleEvent), max_size=2), st.binary(min_size=16, max_size=16))
def test_an_operation_arrives_as_it_was(
    asked: tuple[str, Any, Any], text: str, events: list[SettleEvent], salt: bytes
) -> None:
    kind, request, _ = asked
    operation = Operation(
        org_id=text,
        kind=kind if kind != "denial" else "hold",
        request_id=text,
        request=request,
        salt=salt,
        user_id=text or None,
        attributes={text: text},
        worst_cost_pico=None if not text else 2**70,
        events=tuple(events),
    )
    assert _members(read_operation(operation_message(operation))) == _members(operation)


@given(operations(), TEXT, st.lists(structs(Receipt), max_size=2), st.integers(1, 2**63))
def test_what_became_of_it_arrives_as_it_was(
    done: tuple[str, Any, Any], text: str, usage: list[Receipt], seq: int
) -> None:
    kind, request, result = done
    recorded = Recorded(
        org_id=text,
        kind=kind,
        seq=seq,
        request_id=text,
        recorded_at=datetime(2026, 11, 2, 12, 0, 0, 123456, tzinfo=UTC),
        request=request,
        result=result,
        fingerprint="f",
        leaf="l",
        rate_version=text,
        refers_to_seq=None,
        usage=tuple(usage),
        is_new=False,
    )
    assert _members(read_answer(answer_message(recorded))) == _members(recorded)


@pytest.mark.parametrize("kind", [BadInput, NotFound, Conflict])
def test_a_refusal_arrives_as_it_was(kind: type[TallyError]) -> None:
    refused = read_answer(answer_message(kind("a_code", "what “it” is", next_step="do this", where="here")))
    assert type(refused) is kind
    assert refused.as_dict() == {
        "code": "a_code",
        "detail": "what “it” is",
        "next_step": "do this",
        "where": "here",
    }


def test_when_to_try_again_is_told() -> None:
    refused = read_answer(answer_message(Unavailable("busy", "much to do", next_step="wait", retry_after_seconds=7)))
    assert isinstance(refused, Unavailable)
    assert (refused.code, refused.retry_after_seconds, refused.where) == ("busy", 7, None)
