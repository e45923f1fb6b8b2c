"""Checking a batch says of every event exactly what checking it alone says, whatever stands beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journal_helpers import raw_event
from tallystick.core.errors import BadInput, Problems
from tallystick.usage.batch_checks import all_sound, check_events
from tallystick.usage.checks import check_event
from tallystick.usage.event import UsageEvent
from tallystick.usage.event_problems import FIELDS
from tallystick.usage.meters import METERS

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
KNOWN = frozenset(METERS) | {"pages_reviewed"}

TEXTS = st.sampled_from(
    [
        "a",
        "a b",
        "",
        " ",
        "\u00a0",
        "x" * 512,
        "x" * 513,
        "a\x00b",
        "tab\there",
        "Zoë 🚀",
        "🚀" * 512,
        "\ud800",
        None,
        5,
        True,
    ]
)
TIMES = st.sampled_from(
    [
        "2026-10-15T12:00:00Z", "2026-10-15T12:00:00+02:00", "2026-10-15T12:00:00.250000+00:00", "2026-10-15 12:00:00Z",
        "2026-10-31T23:59:59.9999999Z", "2026-10-31T23:59:59.999999999999999-05:00", "2026-10-15T12:00:00",
        "2026-10-15", "1999-12-31T23:59:59Z", "2026-11-02T12:05:00Z", "2026-11-02T12:05:01Z", "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00+14:00", "yesterday", 1760000000, None, [], "x" * 40, ".1234567" * 5,
    ]
)  # fmt: skip
NUMBERS = st.sampled_from(
    [0, 1, 10**10, 10**10 + 1, 10**12, 10**12 + 1, 2**63 - 1, 2**63, 10**30, -1, 1.0, True, "5", None]
)
METER_SETS = st.dictionaries(
    st.sampled_from(["tokens_in", "tokens_out", "pages_reviewed", "nope"]), NUMBERS, max_size=3
)
TEXT_SETS = st.dictionaries(st.sampled_from(["k", "", "service_tier", "speed", "a\nb"]), TEXTS, max_size=3)
BY_FIELD: dict[str, st.SearchStrategy[Any]] = {
    "time": TIMES,
    "meters": METER_SETS | st.none() | st.just([]),
    "latency_ms": NUMBERS,
    "provider_cost_pico": NUMBERS | st.sampled_from(["0.1", "12", "-3"]),
    "price_context": TEXT_SETS | st.none(),
    "attributes": TEXT_SETS | st.just({str(number): "v" for number in range(65)}) | st.just({"k": "line\nbreak"}),
    "outcome": st.sampled_from(["success", "empty", "failure", "nope", None]),
    "usage_status": st.sampled_from(["final", "partial", "estimated", None]),
    "payer": st.sampled_from(["seller", "customer", "nobody", "\ud800", None]),
    "specversion": st.just("1.0"),
}


# Made once: a strategy that is made for each draw is looked over for each.
ONE_IN_TEN = st.integers(0, 9)
NO_EVENTS = st.sampled_from([None, 7, "text", [], {}])
IDS = st.sampled_from(["r1", "r2", "r3"])
CHANGED = st.lists(st.sampled_from([*FIELDS, "specversion"]), max_size=2)
MISSING = st.lists(st.sampled_from(FIELDS), max_size=1)


@st.composite
def raws(draw: st.DrawFn) -> object:
    """Mostly sound events, with a few fields that may be anything, or missing."""
    if draw(ONE_IN_TEN) == 0:
        return draw(NO_EVENTS)
    raw = raw_event(draw(IDS))
    for name in draw(CHANGED):
        raw[name] = draw(BY_FIELD.get(name, TEXTS))
    for name in draw(MISSING) if draw(ONE_IN_TEN) == 0 else []:
        raw.pop(name, None)
    return raw


def verdict(answer: UsageEvent | BadInput) -> object:
    if isinstance(answer, UsageEvent):
        return (answer, answer.time.tzinfo)
    parts = answer.problems if isinstance(answer, Problems) else ()
    return (type(answer), answer.as_dict(), [part.as_dict() for part in parts])


def alone(raw: object) -> UsageEvent | BadInput:
    try:
        return check_event(raw, now=NOW, known_meters=KNOWN)
    except BadInput as error:
        return error


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(raws(), max_size=20))
def test_a_batch_is_judged_as_each_event_of_it_alone(batch: list[object]):
    together = check_events(batch, now=NOW, known_meters=KNOWN)
    assert [verdict(answer) for answer in together] == [verdict(alone(raw)) for raw in batch]


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(raws(), min_size=1, max_size=3))
def test_what_is_called_sound_together_is_sound_alone_and_the_same_event(batch: list[object]):
    together = all_sound(batch, now=NOW, known_meters=KNOWN)
    if together is not None:
        assert [verdict(event) for event in together] == [verdict(alone(raw)) for raw in batch]


def test_a_batch_of_plain_events_is_seen_to_be_sound_at_once():
    # Were it to give up on these, every batch would be checked one by one, and the tests above would not notice.
    batch = [
        raw_event(
            f"r{number}", time=f"2026-10-15T12:00:{number:02d}.25+02:00", latency_ms=number, attributes={"k": "v"}
        )
        for number in range(50)
    ]
    assert all_sound(batch, now=NOW, known_meters=KNOWN) is not None
