"""Events of webhooks: their ids, who chooses which, and when a failure is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.app.webhook_courier import excerpt, seconds_asked
from tallystick.core.errors import BadInput
from tallystick.core.key_shapes import line_without_secrets, without_secrets
from tallystick.core.webhook_events import EVENT_TYPES, TYPE, checked_patterns, event_id_of, is_chosen
from tallystick.core.webhook_schedule import ASKED_MAX, ATTEMPTS_MAX, JITTER, PAUSES, pause_after

_names = st.text(max_size=6)


@given(st.tuples(st.none() | _names, _names, _names), st.tuples(st.none() | _names, _names, _names))
def test_an_id_is_that_of_its_org_type_and_key_alone(
    one: tuple[str | None, str, str], other: tuple[str | None, str, str]
) -> None:
    assert (event_id_of(*one) == event_id_of(*other)) == (one == other)


def test_ids_stay_what_they_are() -> None:
    assert event_id_of("acme", "invoice.paid", "41") == "msg_fe893dddebf20be33c2883ab11f1d464"


def test_patterns_choose_names_families_or_all() -> None:
    assert is_chosen("dispute.opened", ["dispute.*"])
    assert is_chosen("dispute.opened", ["x", "dispute.opened"])
    assert is_chosen("dispute.opened", ["*"])
    for pattern in ("dispute", "disp.*", "dispute.open", "opened", "dispute.opened.*", ""):
        assert not is_chosen("dispute.opened", [pattern])


def test_every_type_is_of_the_form_and_can_be_chosen() -> None:
    for name in EVENT_TYPES:
        assert TYPE.fullmatch(name)
        assert checked_patterns([name]) == [name]
    assert checked_patterns(["invoice.*", "*", "alert.firing", "*"]) == ["*", "alert.firing", "invoice.*"]


@pytest.mark.parametrize("pattern", ["invoice.payed", "invoice", "inv*", "*.paid", "", "invoices.*", ".*", "**"])
def test_what_would_choose_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(BadInput) as caught:
        checked_patterns([pattern])
    assert caught.value.code == "unknown_event_type"


def test_the_schedule_goes_on_for_three_days_and_waits_longer_each_time() -> None:
    assert ATTEMPTS_MAX == 10
    assert sorted(PAUSES) == list(PAUSES)
    assert sum(PAUSES, timedelta(0)) == timedelta(hours=75, minutes=35, seconds=5)


@given(st.integers(1, ATTEMPTS_MAX - 1), st.floats(0, 1, exclude_max=True), st.none() | st.integers(0, 10**9))
def test_a_pause_is_at_least_the_schedules_and_at_most_what_may_be_asked_for(
    attempt: int, random: float, asked: int | None
) -> None:
    pause = pause_after(attempt, random, asked)
    planned = PAUSES[attempt - 1]
    assert planned <= pause <= max(planned * (1 + JITTER), ASKED_MAX)
    if asked is not None and timedelta(seconds=asked) <= ASKED_MAX:
        assert pause >= timedelta(seconds=asked)
    if asked is None:
        assert pause <= planned * (1 + JITTER)


def test_a_secret_in_the_wrong_place_is_shown_in_no_log_and_no_error() -> None:
    secret = "whsec_PKDi2JU9mJIS8zbS+6LtNfmlQucmDQPaC1PKbcLlsxs="
    assert without_secrets(f"see {secret}.") == "see whsec_…."
    assert (
        line_without_secrets(f'{{"path":"/v1/webhooks/{secret}"}}'.encode())
        == b'{"path":"/v1/webhooks/whsec_\xe2\x80\xa6"}'
    )
    assert secret not in str(BadInput("x", secret, next_step="y", where=secret))
    assert without_secrets("whsec_short") == "whsec_short"


def test_what_was_answered_can_be_shown_anywhere() -> None:
    sent = "fine\n\x1b[2Jgone \x00\u202egnihton\u202c \u2028line\u2066 é \udc80".encode("utf-8", "surrogatepass")
    shown = excerpt(sent)
    assert shown.startswith("fine\n\ufffd[2Jgone \ufffd\ufffdgnihton\ufffd \ufffdline\ufffd é \ufffd")
    assert excerpt(b"\x1f\x8b\x08\x00packed").count("packed") == 1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("30", 30), (" 30 ", 30), ("Mon, 02 Nov 2026 12:00:30 GMT", 30), ("Mon, 02 Nov 2026 11:00:00 GMT", 0),
        (None, None), ("", None), ("-5", None), ("1.5", None), ("9" * 300, None), ("tomorrow", None),
        ("Mon, 99 Foo 2026 25:61:61 GMT", None), ("Mon, 31 Feb 2026 12:00:00 GMT", None),
        ("Mon, 02 Nov 0000 12:00:00 GMT", 0),
    ],
)  # fmt: skip
def test_a_longer_wait_is_asked_for_in_seconds_or_by_a_date(said: str | None, seconds: int | None) -> None:
    assert seconds_asked(said, datetime(2026, 11, 2, 12, tzinfo=UTC)) == seconds
