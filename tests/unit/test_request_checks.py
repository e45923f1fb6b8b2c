"""Requests to authorize, settle and release: what is sound becomes an operation, all that is not is told at once."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import BadInput, Problems
from tallystick.ledger.operation_ids import LETTERS, operation_id, parse_operation_id
from tallystick.ledger.operations import Authorize, Operation, ReleaseHold, Settle
from tallystick.ledger.request_checks import (
    FROM_HOLD,
    SETTLE_EVENTS_MAX,
    authorize_operation,
    complete_event,
    release_operation,
    settle_operation,
)
from tallystick.usage.meters import METERS

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
SALT = b"s" * 16
EVENT = {"request_id": "e1", "time": "2026-11-02T11:00:00Z", "model": "gpt-4o", "meters": {"tokens_in": 5}}


def authorize_request(**more: Any) -> dict[str, Any]:
    request = {
        "org_id": "acme",
        "request_id": "r1",
        "user_id": "u1",
        "session_id": "s1",
        "feature": "docs",
        "environment": "production",
    }
    return {**request, **more}


def authorize(raw: object, worst_cost_pico: int | None = 7) -> Operation:
    return authorize_operation(
        raw, salt=SALT, known_meters=METERS, now=NOW, worst_cost=lambda _request: worst_cost_pico
    )


def settle(raw: object) -> Operation:
    return settle_operation(raw, salt=SALT, known_meters=METERS, now=NOW)


def settle_request(**more: Any) -> dict[str, Any]:
    return {"org_id": "acme", "hold_id": "h7", "outcome": "success", "events": [EVENT], **more}


def faults(error: BadInput) -> dict[str | None, str]:
    problems = error.problems if isinstance(error, Problems) else (error,)
    return {problem.where: problem.code for problem in problems}


def test_an_authorize_request_becomes_a_hold_with_its_worst_cost() -> None:
    found = authorize(
        authorize_request(
            action="research", model="gpt-4o", meters={"tokens_in": 9}, work_key="d1", attributes={"k": "v"}
        )
    )
    assert (found.kind, found.org_id, found.request_id) == ("hold", "acme", "r1")
    assert (found.user_id, found.session_id, found.attributes, found.salt) == ("u1", "s1", {"k": "v"}, SALT)
    assert found.worst_cost_pico == 7
    assert found.request == Authorize(
        feature="docs",
        environment="production",
        action="research",
        model="gpt-4o",
        work_key="d1",
        meters={"tokens_in": 9},
    )


def test_what_may_be_left_out_may_be_null_too() -> None:
    names = ("action", "model", "provider", "api_key_id", "work_key", "meters", "payer", "attributes")
    assert authorize(authorize_request(**dict.fromkeys(names))) == authorize(authorize_request())


def test_who_pays_is_the_plans_unless_said() -> None:
    assert authorize(authorize_request()).request.payer is None  # type: ignore[union-attr]
    assert authorize(authorize_request(payer="seller")).request.payer == "seller"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"org_id": ""}, {"org_id": "empty_text"}),
        ({"user_id": None}, {"user_id": "wrong_type"}),
        ({"colour": 1}, {"colour": "unknown_field"}),
        ({"time": "2026-11-02T11:00:00Z"}, {"time": "unknown_field"}),
        ({"meters": {"tokens_im": 1}}, {"meters.tokens_im": "unknown_meter"}),
        ({"meters": {"tokens_in": -1}}, {"meters.tokens_in": "quantity_negative"}),
        ({"meters": {"tokens_in": 1.5}}, {"meters.tokens_in": "wrong_type"}),
        ({"payer": "nobody"}, {"payer": "not_a_choice"}),
        ({"work_key": ""}, {"work_key": "empty_text"}),
        ({"work_key": 5}, {"work_key": "wrong_type"}),
        ({"work_key": "\x00"}, {"work_key": "invalid_text"}),
        ({"work_key": "\U0001f600" * 512, "org_id": "\U0001f600" * 512}, {"work_key": "text_too_long"}),
        ({"model": "", "feature": "x" * 600}, {"model": "empty_text", "feature": "text_too_long"}),
    ],
)  # fmt: skip
def test_every_fault_of_an_authorize_request_is_told_at_its_place(
    more: dict[str, Any], expected: dict[str, str]
) -> None:
    with pytest.raises(BadInput) as refused:
        authorize(authorize_request(**more))
    assert faults(refused.value) == expected


def test_a_request_without_anything_names_all_that_is_missing() -> None:
    with pytest.raises(Problems) as refused:
        authorize({})
    names = ("org_id", "request_id", "user_id", "session_id", "feature", "environment")
    assert refused.value.code == "invalid_request"
    assert faults(refused.value) == dict.fromkeys(names, "missing_field")


@pytest.mark.parametrize("raw", [None, 5, "text", [], [authorize_request()]])
def test_what_is_no_object_is_refused(raw: object) -> None:
    for check in (authorize, settle, lambda value: release_operation(value, salt=SALT)):
        with pytest.raises(BadInput) as refused:
            check(raw)
        assert "not_an_object" in faults(refused.value).values()


def test_a_settlement_is_called_by_its_hold_and_names_its_events_in_order() -> None:
    found = settle(settle_request(events=[EVENT, {**EVENT, "request_id": "e0"}]))
    assert (found.kind, found.request_id) == ("settlement", "h7")
    assert found.request == Settle(hold_seq=7, outcome="success", events=("e1", "e0"))
    assert [one.event.request_id for one in found.events] == ["e1", "e0"]


@pytest.mark.parametrize(
    "events",
    [
        [],
        [EVENT],
        [
            {**EVENT, "org_id": None, "user_id": None, "payer": "customer"},
            {**EVENT, "request_id": "e2", "org_id": "acme"},
        ],
        [{**EVENT, "time": "2026-11-02T11:00:00.1234567+00:00", "attributes": {"team": "a"}}],
    ],
)
def test_a_settlement_that_is_looked_at_member_by_member_is_the_same(events: list[dict[str, Any]]) -> None:
    at_once = settle(settle_request(events=events))
    thoroughly = settle(settle_request(events=events, charge_credits="5"))  # which is read only there
    assert msgspec.structs.replace(at_once.request, charge_pico=5 * 10**12) == thoroughly.request
    assert at_once.events == thoroughly.events
    assert (at_once.org_id, at_once.request_id) == (thoroughly.org_id, thoroughly.request_id)


def test_what_an_event_leaves_out_is_the_holds() -> None:
    (one,) = settle(settle_request()).events
    assert settle(settle_request(events=[{**EVENT, **dict.fromkeys(("org_id", *FROM_HOLD))}])).events == (one,)
    assert one.from_hold == FROM_HOLD
    hold = {
        "user_id": "u9",
        "session_id": "s9",
        "feature": "docs",
        "environment": "staging",
        "action": "research",
        "api_key_id": "k1",
        "payer": "customer",
    }
    whole = complete_event(one, hold)
    assert {name: getattr(whole, name) for name in FROM_HOLD} == hold
    assert (whole.org_id, whole.model, whole.meters) == ("acme", "gpt-4o", {"tokens_in": 5})


def test_what_an_event_says_itself_stays() -> None:
    said = {"user_id": "u2", "environment": "production", "payer": "seller"}
    (one,) = settle(settle_request(events=[{**EVENT, **said}])).events
    hold = dict.fromkeys(FROM_HOLD, "hold's")
    whole = complete_event(one, hold)
    assert {name: getattr(whole, name) for name in said} == said
    assert whole.feature == "hold's"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"hold_id": "7"}, {"hold_id": "invalid_id"}),
        ({"hold_id": "s7"}, {"hold_id": "invalid_id"}),
        ({"hold_id": "h0"}, {"hold_id": "invalid_id"}),
        ({"hold_id": "h" + "9" * 19}, {"hold_id": "invalid_id"}),
        ({"hold_id": 7}, {"hold_id": "wrong_type"}),
        ({"outcome": "done"}, {"outcome": "not_a_choice"}),
        ({"events": {}}, {"events": "wrong_type"}),
        ({"events": [5]}, {"events.0": "not_an_object"}),
        ({"events": [EVENT, EVENT]}, {"events": "duplicate_value"}),
        ({"events": [{**EVENT, "org_id": "globex"}]}, {"events.0.org_id": "not_a_choice"}),
        ({"events": [EVENT, {**EVENT, "request_id": "e2", "time": 5}]}, {"events.1.time": "invalid_time"}),
        ({"events": [{**EVENT, "time": "2027-01-01T00:00:00Z"}]}, {"events.0.time": "time_in_future"}),
        ({"charge_credits": "-1"}, {"charge_credits": "invalid_amount"}),
        ({"charge_credits": "0.0000000000001"}, {"charge_credits": "amount_too_fine"}),
        ({"charge_credits": 5}, {"charge_credits": "invalid_decimal"}),
        ({"events": [EVENT] * (SETTLE_EVENTS_MAX + 1)}, {"events": "too_many_events"}),
    ],
)  # fmt: skip
def test_every_fault_of_a_settlement_is_told_at_its_place(more: dict[str, Any], expected: dict[str, str]) -> None:
    with pytest.raises(BadInput) as refused:
        settle(settle_request(**more))
    assert faults(refused.value) == expected


def test_a_settlement_may_bring_no_events_and_state_its_charge() -> None:
    found = settle({"org_id": "acme", "hold_id": "h7", "outcome": "failure", "charge_credits": "0"})
    assert found.request == Settle(hold_seq=7, outcome="failure", charge_pico=0)


def test_a_release_is_called_by_its_hold() -> None:
    found = release_operation({"org_id": "acme", "hold_id": "h7", "reason": "gave up"}, salt=SALT)
    assert (found.kind, found.request_id, found.request) == ("release", "h7", ReleaseHold(hold_seq=7, reason="gave up"))


@given(st.sampled_from(sorted(LETTERS)), st.integers(1, 2**63 - 1))
def test_an_id_is_read_as_it_was_written(kind: Any, seq: int) -> None:
    assert parse_operation_id(kind, operation_id(kind, seq), where="id") == seq


@given(st.text(max_size=25).filter(lambda text: not (text[:1] == "h" and text[1:].isdigit())))
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_operation_id("hold", text, where="hold_id")
    assert (refused.value.code, refused.value.where) == ("invalid_id", "hold_id")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(_JSON)
def test_nothing_that_is_sent_is_worse_than_refused(value: Any) -> None:
    for raw in (value, authorize_request(meters=value), authorize_request(work_key=value, attributes=value)):
        with suppress(BadInput):
            assert isinstance(authorize(raw), Operation)
    for more in ({"events": value}, {"events": [value]}, {"charge_credits": value}, {"hold_id": value}):
        with suppress(BadInput):
            assert isinstance(settle(settle_request(**more)), Operation)
