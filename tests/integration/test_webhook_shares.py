"""Who has many slow endpoints leaves room for the others, and what is switched off keeps nothing for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from journal_helpers import query
from tallystick.app.runtime import Runtime
from tallystick.app.test_clock import make_test_org
from tallystick.app.webhook_courier import AT_ONCE, PER_OWNER, Courier
from tallystick.app.webhook_endpoints import change, create_endpoint
from tallystick.app.webhook_log import forget_old, replay
from tallystick.journal.billing_metrics import billing_figures
from tallystick.journal.webhook_endpoints import endpoint_of
from tallystick.journal.webhooks import enqueue_event
from webhook_receivers import Receiver, answer_with, receiving

HAPPENED = datetime(2026, 11, 2, 11, 59, tzinfo=UTC)


@pytest.fixture
def sending(runtime: Runtime) -> Runtime:
    runtime.settings.webhook_allow = "127.0.0.1"
    runtime.clock = lambda: datetime.now(UTC)
    return runtime


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


def endpoint(runtime: Runtime, receiver: Receiver, org: str | None) -> str:
    return create_endpoint(runtime, url=receiver.url, types=["*"], author="ann", org_id=org).endpoint.endpoint_id


def tell(runtime: Runtime, key: str, org: str | None, type: str = "invoice.paid") -> str:
    with runtime.database.writer() as connection:
        return enqueue_event(connection, org_id=org, type=type, key=key, data={}, at=HAPPENED)


def test_an_org_with_many_slow_endpoints_leaves_room_for_the_others(sending: Runtime, receiver: Receiver) -> None:
    free = threading.Event()
    quick = answer_with(200)

    def slow(*given: Any) -> None:
        free.wait(10)
        quick(*given)

    receiver.answer = slow
    for _ in range(6):
        endpoint(sending, receiver, "acme")
    for key in range(5):
        tell(sending, str(key), "acme")
    with receiving() as other:
        endpoint(sending, other, "globex")
        tell(sending, "last", "globex")
        courier, second = Courier(sending), Courier(sending)
        try:
            while courier.look() or second.look() or (not other.requests and courier.pause(0.5)):
                pass
            assert len(other.requests) == 1
            assert len(receiver.requests) <= PER_OWNER < AT_ONCE
        finally:
            free.set()
        courier.deliver_all()
        second.deliver_all()
    assert len(receiver.requests) == 30


def test_what_waits_for_an_endpoint_that_is_switched_off_is_late_for_nobody_and_forgotten(
    sending: Runtime, receiver: Receiver
) -> None:
    made = endpoint(sending, receiver, "acme")
    tell(sending, "1", "acme")
    soon = sending.clock() + timedelta(hours=3)

    def figures() -> tuple[int, bool]:
        with sending.database.operator() as connection:
            found = billing_figures(connection, soon)
        return found.deliveries_waiting, found.delivery_lag_seconds > 3600

    assert figures() == (1, True)
    change(sending, made, enabled=False, author="ann")
    assert figures() == (0, False)
    sending.clock = lambda: datetime.now(UTC) + timedelta(days=91)
    assert forget_old(sending) == 1
    assert query(sending, "select from webhook_deliveries") == []


def test_alerts_of_test_orgs_are_not_sent_to_operators_again_either(sending: Runtime, receiver: Receiver) -> None:
    make_test_org(sending, "sandbox", HAPPENED - timedelta(days=30), author="ann")
    tell(sending, "1", "sandbox", "alert.firing")
    tell(sending, "2", "acme", "alert.firing")
    tell(sending, "3", "sandbox")
    operators, own = endpoint(sending, receiver, None), endpoint(sending, receiver, "sandbox")
    assert len(replay(sending, operators, since=HAPPENED - timedelta(days=1))) == 2
    assert len(replay(sending, own, since=HAPPENED - timedelta(days=1))) == 2


def test_what_happens_is_told_while_an_endpoint_is_changed(sending: Runtime, receiver: Receiver) -> None:
    made = endpoint(sending, receiver, "acme")
    told = threading.Thread(target=tell, args=(sending, "1", "acme"), daemon=True)
    with sending.database.writer() as connection:
        assert endpoint_of(connection, made, lock=True) is not None
        told.start()
        told.join(5)
        assert not told.is_alive(), "the entries of an org do not wait for whoever changes its endpoints"
    told.join(5)
    assert query(sending, "select state from webhook_deliveries") == [("waiting",)]
