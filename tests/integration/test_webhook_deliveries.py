"""Webhooks are sent once something has happened, signed, until they arrive, and to nobody who is not meant."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from journal_helpers import query
from tallystick.app.job_list import find_job
from tallystick.app.jobs import run_job
from tallystick.app.runtime import Runtime
from tallystick.app.webhook_courier import LEASE, PER_ENDPOINT, Courier
from tallystick.app.webhook_endpoints import NewSecret, change, create_endpoint, remove, rotate_secret, show_endpoint
from tallystick.app.webhook_log import forget_old, list_deliveries, ping_now, replay, show_delivery
from tallystick.app.webhook_loop import WebhookLoop
from tallystick.core.errors import BadInput
from tallystick.core.webhook_schedule import ATTEMPTS_MAX, PAUSES
from tallystick.journal.steps import install
from tallystick.journal.webhooks import enqueue_event
from webhook_receivers import Receiver, answer_with, receiving

HAPPENED = datetime(2026, 11, 2, 11, 59, tzinfo=UTC)


@pytest.fixture
def sending(runtime: Runtime) -> Runtime:
    """A runtime whose clock is the machine's, as receivers' are, and which may send to this machine."""
    runtime.settings.webhook_allow = "127.0.0.1, localhost"
    runtime.clock = lambda: datetime.now(UTC)
    return runtime


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


def endpoint(runtime: Runtime, receiver: Receiver, *types: str, org: str | None = "acme") -> NewSecret:
    return create_endpoint(runtime, url=receiver.url, types=types or ["*"], author="ann", org_id=org)


def tell(runtime: Runtime, key: str = "1", org: str | None = "acme", type: str = "invoice.paid") -> str:
    with runtime.database.writer() as connection:
        return enqueue_event(connection, org_id=org, type=type, key=key, data={"amount_usd": "1.50"}, at=HAPPENED)


def later(runtime: Runtime, passed: timedelta) -> None:
    before = runtime.clock
    runtime.clock = lambda: before() + passed


def test_what_is_told_arrives_signed_as_canonical_json_with_the_id_that_it_keeps(
    sending: Runtime, receiver: Receiver
) -> None:
    made = endpoint(sending, receiver)
    assert tell(sending) == tell(sending), "told twice"
    assert Courier(sending).deliver_all() == (1, 0)
    assert Courier(sending).deliver_all() == (0, 0)
    (sent,) = receiver.requests
    assert sent.path == "/hooks?x=1"
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert sent.body == (b'{"data":{"amount_usd":"1.50"},"timestamp":"2026-11-02T11:59:00Z","type":"invoice.paid"}')
    assert Webhook(made.secret).verify(sent.body, sent.headers)["type"] == "invoice.paid"
    with pytest.raises(WebhookVerificationError):
        Webhook(made.secret).verify(sent.body + b" ", sent.headers)
    (listed,) = list_deliveries(sending, made.endpoint.endpoint_id)["deliveries"]
    assert listed["event_id"] == sent.headers["webhook-id"]
    assert listed["state"] == "delivered"
    assert listed["last_attempt"]["status"] == 200
    assert listed["last_attempt"]["response"] == "thanks"
    assert listed["last_attempt"]["latency_ms"] < 5000
    shown = show_delivery(sending, listed["delivery_id"])
    assert shown["data"] == {"amount_usd": "1.50"}
    assert [one["attempt"] for one in shown["log"]] == [1]


def test_what_is_rolled_back_is_told_to_nobody(sending: Runtime, receiver: Receiver) -> None:
    endpoint(sending, receiver)
    with sending.database.writer() as connection:
        enqueue_event(connection, org_id="acme", type="invoice.paid", key="1", data={}, at=HAPPENED)
        connection.rollback()
    assert Courier(sending).deliver_all() == (0, 0)


def test_an_endpoint_gets_what_its_org_and_its_types_are_and_an_operators_that_of_all(sending: Runtime) -> None:
    with receiving() as ours, receiving() as theirs, receiving() as operators:
        endpoint(sending, ours, "invoice.*")
        endpoint(sending, theirs, "*", org="other")
        endpoint(sending, operators, "*", org=None)
        told = [tell(sending), tell(sending, type="alert.firing"), tell(sending, org="other"), tell(sending, org=None)]
        assert Courier(sending).deliver_all() == (6, 0)
        assert ours.ids == told[:1]
        assert theirs.ids == told[2:3]
        assert sorted(operators.ids) == sorted(told)


def test_a_failure_is_tried_again_on_the_schedule_with_the_same_id_until_it_is_given_up(
    sending: Runtime, receiver: Receiver
) -> None:
    made = endpoint(sending, receiver)
    tell(sending)
    receiver.answer = answer_with(500, b"no\x00\x1b[31m" + b"x" * 5000)
    waited = timedelta(0)
    for attempt, pause in enumerate((timedelta(0), *PAUSES), 1):
        later(sending, pause - timedelta(seconds=4) if attempt > 1 else pause)
        assert Courier(sending).deliver_all() == ((0, 0) if attempt > 1 else (0, 1)), f"before attempt {attempt}"
        if attempt > 1:
            later(sending, timedelta(seconds=4) + pause * 0.11)
            assert Courier(sending).deliver_all() == (0, 1)
            waited += pause
    assert timedelta(days=3) < waited < timedelta(days=4)
    assert len(receiver.ids) == ATTEMPTS_MAX
    assert len(set(receiver.ids)) == 1
    (listed,) = list_deliveries(sending, made.endpoint.endpoint_id)["deliveries"]
    assert (listed["state"], listed["attempts"], listed["last_attempt"]["error"]) == ("failed", 10, "answered 500")
    assert listed["last_attempt"]["response"].startswith("no\ufffd\ufffd[31mxxx")
    assert len(listed["last_attempt"]["response"]) <= 1024
    later(sending, timedelta(days=9))
    assert Courier(sending).deliver_all() == (0, 0)
    receiver.answer = answer_with(204)
    assert len(replay(sending, made.endpoint.endpoint_id, since=HAPPENED, missed=True)) == 1
    assert Courier(sending).deliver_all() == (1, 0)
    assert len(set(receiver.ids)) == 1
    assert replay(sending, made.endpoint.endpoint_id, since=HAPPENED, missed=True) == []
    assert show_endpoint(sending, made.endpoint.endpoint_id)["failing_since"] is None


def test_a_receiver_may_ask_for_a_longer_wait(sending: Runtime, receiver: Receiver) -> None:
    endpoint(sending, receiver)
    tell(sending)
    receiver.answer = answer_with(429, Retry_After="3600")
    assert Courier(sending).deliver_all() == (0, 1)
    later(sending, timedelta(minutes=59))
    assert Courier(sending).deliver_all() == (0, 0)
    later(sending, timedelta(minutes=2))
    receiver.answer = answer_with(503, Retry_After=format_datetime(sending.clock() + timedelta(hours=2), usegmt=True))
    assert Courier(sending).deliver_all() == (0, 1)
    later(sending, timedelta(minutes=119))
    assert Courier(sending).deliver_all() == (0, 0)
    later(sending, timedelta(minutes=2))
    assert Courier(sending).deliver_all() == (0, 1)


def test_redirects_are_failures_and_nobody_goes_after_them(sending: Runtime, receiver: Receiver) -> None:
    made = endpoint(sending, receiver)
    with receiving() as elsewhere:
        receiver.answer = answer_with(307, Location=elsewhere.url)
        tell(sending)
        assert Courier(sending).deliver_all() == (0, 1)
        assert not elsewhere.requests
    (listed,) = list_deliveries(sending, made.endpoint.endpoint_id)["deliveries"]
    assert listed["last_attempt"]["error"] == "answered 307: redirects are not followed"


def test_an_endpoint_that_is_gone_is_disabled_at_once_and_operators_are_told(
    sending: Runtime, receiver: Receiver
) -> None:
    made = endpoint(sending, receiver)
    with receiving() as operators:
        endpoint(sending, operators, "webhook.*", org=None)
        receiver.answer = answer_with(410)
        tell(sending)
        tell(sending, "2")
        assert sum(Courier(sending).deliver_all()) >= 2
        (told,) = [json.loads(request.body) for request in operators.requests]
    assert told["type"] == "webhook.disabled"
    assert told["data"]["endpoint_id"] == made.endpoint.endpoint_id
    assert told["data"]["org_id"] == "acme"
    shown = show_endpoint(sending, made.endpoint.endpoint_id)
    assert (shown["state"], shown["reason"]) == ("disabled", "it answered 410: it is gone")
    before = len(receiver.requests)
    tell(sending, "3")
    later(sending, timedelta(days=30))
    assert Courier(sending).deliver_all() == (0, 0)
    assert len(receiver.requests) == before


def test_days_of_nothing_but_failure_disable_an_endpoint_and_one_success_keeps_it(
    sending: Runtime, receiver: Receiver
) -> None:
    made = endpoint(sending, receiver)
    receiver.answer = answer_with(503)

    def fail(count: int, first: int) -> None:
        for key in range(first, first + count):
            tell(sending, str(key))
            assert Courier(sending).deliver_all()[1] >= 1

    fail(9, 0)
    later(sending, timedelta(days=4))
    receiver.answer = answer_with(200)
    assert Courier(sending).deliver_all() == (9, 0)
    receiver.answer = answer_with(503)
    fail(9, 100)
    later(sending, timedelta(days=4, hours=23))
    Courier(sending).deliver_all()
    assert show_endpoint(sending, made.endpoint.endpoint_id)["state"] == "enabled"
    later(sending, timedelta(hours=2))
    Courier(sending).deliver_all()
    shown = show_endpoint(sending, made.endpoint.endpoint_id)
    assert (shown["state"], shown["reason"]) == ("disabled", "nothing but failure for 5 days")
    assert shown["failures"] >= 10
    receiver.answer = answer_with(200)
    assert change(sending, made.endpoint.endpoint_id, enabled=True, author="ann")["failures"] == 0
    Courier(sending).deliver_all()
    later(sending, timedelta(hours=3))  # the one whose failure was the last still had its pause to wait
    Courier(sending).deliver_all()
    assert query(sending, "select distinct state from webhook_deliveries") == [("delivered",)], "what waited is sent"


def test_workers_share_what_is_due_and_send_nothing_twice(sending: Runtime, receiver: Receiver) -> None:
    for _ in range(3):
        endpoint(sending, receiver)
    for key in range(20):
        tell(sending, str(key))
    couriers = [Courier(sending) for _ in range(3)]
    threads = [threading.Thread(target=courier.deliver_all) for courier in couriers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Courier(sending).deliver_all()
    assert len(receiver.requests) == 60
    assert len(set(receiver.ids)) == 20
    assert sum(courier.failed for courier in couriers) == 0


def test_what_a_worker_left_when_it_died_is_sent_by_another(sending: Runtime, receiver: Receiver) -> None:
    from tallystick.journal.webhook_deliveries import claim_due

    endpoint(sending, receiver)
    tell(sending)
    now = sending.clock()
    with sending.database.writer() as connection:
        assert (
            len(claim_due(connection, now=now, until=now + LEASE, claim="dead", most=9, per_endpoint=9, per_owner=9))
            == 1
        )
    assert Courier(sending).deliver_all() == (0, 0), "it is the other's"
    later(sending, LEASE + timedelta(seconds=1))
    assert Courier(sending).deliver_all() == (1, 0)
    assert query(sending, "select attempts, state, claim from webhook_deliveries") == [(2, "delivered", None)]


def test_what_was_sent_and_not_written_down_is_sent_again_with_the_same_id(
    sending: Runtime, receiver: Receiver
) -> None:
    def die(step: str) -> None:
        if step == "webhooks.posted":
            raise RuntimeError("the process is gone")

    endpoint(sending, receiver)
    tell(sending)
    install(die)
    try:
        Courier(sending).deliver_all()
    finally:
        install(None)
    assert query(sending, "select state, attempts from webhook_deliveries") == [("waiting", 1)]
    later(sending, LEASE + timedelta(seconds=1))
    assert Courier(sending).deliver_all() == (1, 0)
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1


def test_the_loop_beside_a_server_sends_what_is_due_and_says_so(sending: Runtime, receiver: Receiver) -> None:
    sending.settings.webhook_seconds = 1
    endpoint(sending, receiver)
    with WebhookLoop(sending):
        told = {tell(sending, str(key)) for key in range(5)}
        until = time.monotonic() + 20
        while time.monotonic() < until and not query(sending, "select from tallystick_jobs.job_runs where done > 0"):
            time.sleep(0.05)
    assert set(receiver.ids) == told
    assert len(receiver.ids) == 5
    runs = query(
        sending, "select job, outcome, started_by like 'serve %%' from tallystick_jobs.job_runs where done > 0"
    )
    assert set(runs) == {("webhooks", "done", True)}
    tell(sending, "by hand")
    done = run_job(sending, find_job(sending.settings, "webhooks"), by="hand")
    assert done is not None
    assert done.detail == "1 deliveries arrived, 0 attempts failed"


def test_settings_that_cannot_be_read_are_said_before_anything_is_attempted(
    sending: Runtime, receiver: Receiver
) -> None:
    endpoint(sending, receiver)
    tell(sending)
    for setting, value in (("webhook_allow", "10.0.0.1/8"), ("webhook_ca_file", Path("/nowhere.pem"))):
        before = getattr(sending.settings, setting)
        setattr(sending.settings, setting, value)
        with pytest.raises(BadInput) as refused:
            Courier(sending).deliver_all()
        assert (refused.value.code, refused.value.where) == ("invalid_setting", f"TALLY_{setting}".upper())
        setattr(sending.settings, setting, before)
    assert Courier(sending).deliver_all() == (1, 0)


def test_a_slow_endpoint_keeps_no_other_waiting(sending: Runtime, receiver: Receiver) -> None:
    free = threading.Event()
    quick = answer_with(200)

    def slow(*given: Any) -> None:
        free.wait(10)
        quick(*given)

    receiver.answer = slow
    endpoint(sending, receiver)
    for key in range(30):
        tell(sending, str(key))
    with receiving() as other:
        endpoint(sending, other)
        tell(sending, "last")
        courier = Courier(sending)
        while courier.look() or (not other.requests and courier.pause(0.5)):
            pass
        assert len(other.requests) == 1
        assert len(receiver.requests) <= PER_ENDPOINT
        free.set()
        courier.deliver_all()
    assert len(receiver.requests) == 31


def test_two_secrets_sign_while_they_overlap_and_the_old_one_no_longer_after(
    sending: Runtime, receiver: Receiver
) -> None:
    old = endpoint(sending, receiver)
    new = rotate_secret(sending, old.endpoint.endpoint_id, author="bob", overlap=timedelta(minutes=2))
    tell(sending)
    Courier(sending).deliver_all()
    later(sending, timedelta(minutes=3))
    tell(sending, "2")
    Courier(sending).deliver_all()
    first, second = receiver.requests
    for secret in (old.secret, new.secret):
        assert Webhook(secret).verify(first.body, first.headers)
    assert Webhook(new.secret).verify(second.body, second.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old.secret).verify(second.body, second.headers)
    assert len(first.headers["webhook-signature"].split()) == 2
    assert [one["ordinal"] for one in show_endpoint(sending, old.endpoint.endpoint_id)["secrets"]] == [2, 1]


def test_one_event_or_a_time_is_sent_again_and_what_happened_before_an_endpoint_was_there_too(
    sending: Runtime, receiver: Receiver
) -> None:
    before = [tell(sending, str(key)) for key in range(3)]
    made = endpoint(sending, receiver, "invoice.*").endpoint.endpoint_id
    assert len(replay(sending, made, event_id=before[1])) == 1
    assert replay(sending, made, event_id=before[1]) == [], "it is on its way"
    assert len(replay(sending, made, since=HAPPENED, until=HAPPENED + timedelta(seconds=1))) == 2
    assert replay(sending, made, since=HAPPENED, until=HAPPENED) == []
    Courier(sending).deliver_all()
    assert sorted(receiver.ids) == sorted(before)
    assert len(replay(sending, made, since=HAPPENED, types=["invoice.paid"])) == 3
    assert replay(sending, made, since=HAPPENED, missed=True) == []


def test_a_ping_says_at_once_how_it_went_and_is_not_tried_again(sending: Runtime, receiver: Receiver) -> None:
    made = endpoint(sending, receiver, "invoice.paid").endpoint.endpoint_id
    assert ping_now(sending, made)["state"] == "delivered"
    assert json.loads(receiver.requests[0].body)["type"] == "webhook.ping"
    receiver.answer = answer_with(500, b"broken")
    failed = ping_now(sending, made)
    assert (failed["state"], failed["last_attempt"]["status"]) == ("failed", 500)
    later(sending, timedelta(days=1))
    assert Courier(sending).deliver_all() == (0, 0)


def test_what_waits_for_an_endpoint_that_is_removed_is_never_sent(sending: Runtime, receiver: Receiver) -> None:
    made = endpoint(sending, receiver).endpoint.endpoint_id
    tell(sending)
    remove(sending, made, author="ann")
    assert Courier(sending).deliver_all() == (0, 0)
    assert query(sending, "select state from webhook_deliveries") == [("canceled",)]


def test_old_events_are_forgotten_with_their_log_unless_they_are_still_on_their_way(
    sending: Runtime, receiver: Receiver
) -> None:
    endpoint(sending, receiver)
    tell(sending, "1")
    Courier(sending).deliver_all()
    receiver.answer = answer_with(500)
    tell(sending, "2")
    Courier(sending).deliver_all()
    later(sending, timedelta(days=89))
    assert forget_old(sending) == 0
    later(sending, timedelta(days=2))
    assert forget_old(sending) == 1
    assert query(sending, "select key from webhook_events") == [("2",)]
    assert query(sending, "select count(*) from webhook_attempts") == [(1,)]
