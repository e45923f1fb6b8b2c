"""When it is tried again, with what, and when it is given up."""

from __future__ import annotations

import json
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_upstream import FakeUpstream, Reply
from tallystick_sdk import Conflict, Denied, Retry, Tally, TallyError, Unavailable, UnexpectedAnswer
from tallystick_sdk.retry import Attempts

WALLET = {"before": {"available": "1", "held": "0"}, "after": {"available": "0", "held": "1"}}
ALLOWED = {
    "org_id": "acme", "request_id": "r", "decision": {
        "allow": True, "code": "allowed", "message": "yes", "next_step": {"kind": "none", "text": "go on"},
        "something_new": [1],
    },
    "hold": {"hold_id": "h1", "expires_at": "2026-11-21T12:15:00Z", "credits": "1.000000000001"}, "wallet": WALLET,
    "versions": {}, "entry": {"seq": 1, "kind": "hold", "recorded_at": "2026-11-21T12:00:00Z",
                              "fingerprint": "", "leaf": ""},
}  # fmt: skip
DENIED = {
    "code": "hard_limit_reached", "detail": "no more today", "next_step": "wait", "decision": {
        "allow": False, "code": "hard_limit_reached", "message": "no more today",
        "next_step": {"kind": "wait", "text": "wait", "until": "2026-11-22T00:00:00Z"},
    },
}  # fmt: skip


def client(url: str, **retry: float) -> Tally:
    return Tally(
        base_url=url, spool=False, retry=Retry(**{"wait_seconds": 0.05, **retry}), org_id="acme", user_id="u",
        session_id="s", feature="f", environment="production",
    )  # fmt: skip


def refused(status: int, code: str, **headers: str) -> Reply:
    body = json.dumps({"code": code, "detail": "not now", "next_step": "come again"}).encode()
    return Reply(status=status, body=body, headers=headers)


@pytest.mark.parametrize(
    "first",
    [
        refused(503, "database_unreachable", **{"retry-after": "0"}),
        refused(429, "journal_busy"),
        refused(500, "unexpected_error"),
        Reply(status=502, body=b"<html>", content_type="text/html"),
        Reply(then="reset", sent_bytes=0),
    ],
    ids=["away", "busy", "fault", "proxy", "reset"],
)
def test_the_same_is_sent_again_until_it_is_answered(first: Reply) -> None:
    with FakeUpstream(first) as upstream:
        mended = threading.Thread(target=mend, args=(upstream,))
        mended.start()
        held = client(upstream.url).authorize("tailor")
        assert (held.hold_id, str(held.hold.credits)) == ("h1", "1.000000000001")
        mended.join()
        bodies = {asked.body for asked in upstream.requests}
        assert len(upstream.requests) > 1
        assert len(bodies) == 1  # the same request id, so that there is one hold


def mend(upstream: FakeUpstream) -> None:
    """Once it has refused somebody, it answers."""
    while not upstream.requests:
        time.sleep(0.01)
    time.sleep(0.2)
    upstream.reply = Reply(body=json.dumps(ALLOWED).encode())


def test_a_denial_and_a_conflict_are_answers() -> None:
    with FakeUpstream(Reply(status=429, body=json.dumps(DENIED).encode(), headers={"retry-after": "3600"})) as upstream:
        with pytest.raises(Denied) as denied:
            client(upstream.url).authorize("tailor")
        assert denied.value.retry_after_seconds == 3600
        assert denied.value.decision.next_step.until.isoformat() == "2026-11-22T00:00:00+00:00"
        upstream.reply = refused(409, "hold_resolved")
        with pytest.raises(Conflict):
            client(upstream.url).settle("h1")
        assert len(upstream.requests) == 2


def test_it_is_given_up_at_once_when_the_server_asks_for_more_time_than_there_is() -> None:
    with FakeUpstream(refused(503, "database_unreachable", **{"retry-after": "60"})) as upstream:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="database_unreachable") as away:
            client(upstream.url, deadline_seconds=20).wallet()
        assert time.monotonic() - began < 15
        assert (len(upstream.requests), away.value.retry_after_seconds) == (1, 60)


def test_an_attempt_that_hangs_ends_in_time() -> None:
    with FakeUpstream(Reply(then="hang", sent_bytes=0)) as upstream:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="server_unreachable"):
            client(upstream.url, deadline_seconds=2.0, attempt_seconds=0.3).wallet()
        assert time.monotonic() - began < 8
        assert len(upstream.requests) >= 1


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"org_id": 7}', b"<html>"])
def test_what_is_no_answer_of_a_tallystick_is_said_to_be_none(body: bytes) -> None:
    with FakeUpstream(Reply(body=body)) as upstream, pytest.raises(UnexpectedAnswer):
        client(upstream.url).wallet()


@given(
    st.floats(0, 60),
    st.floats(0.01, 2),
    st.lists(st.tuples(st.floats(0, 1), st.one_of(st.none(), st.integers(0, 20))), max_size=50),
)
def test_waits_grow_are_never_shorter_than_asked_for_and_never_pass_the_deadline(
    deadline: float, first: float, answers: list[tuple[float, int | None]]
) -> None:
    now = 0.0
    dice = 0.0
    retry = Retry(deadline_seconds=deadline, wait_seconds=first, wait_seconds_max=5)
    attempts = Attempts(retry, clock=lambda: now, dice=lambda: dice)
    for number, (rolled, asked) in enumerate(answers):
        dice = rolled
        try:
            wait = attempts.seconds_until_next(Unavailable("x", "y", retry_after_seconds=asked))
        except TallyError:
            break
        bound = min(first * 2.0**number, 5)
        assert (asked or 0) + bound / 2 <= wait <= (asked or 0) + bound
        now += wait
        assert now < deadline
        assert 0 < attempts.timeout_seconds() <= retry.attempt_seconds
