"""One event many times at once and from several processes, and processes that are killed on its way: it counts once."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import pytest

from billing import billed_org, findings, money
from conftest import NOW
from fake_stripe import KEY, SECRET, FakeStripe, running_stripe, signed
from journal_helpers import count, query
from tally_processes import TallyProcess
from tallystick.app.payment_events import TakenEvent, assign_event, list_payment_events, retry_event, take_callback
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import Conflict
from tallystick.journal import steps

SENDERS = 8
STEPS = ("payments.verified", "payments.kept", "payments.settled")


class Stopped(BaseException):
    """What a callback ends with that goes no further than a step: nothing after it is done."""


@contextmanager
def sender(settings: Settings, body: bytes, times: int, *step: str) -> Iterator[tuple[TallyProcess, IO[bytes]]]:
    """The process, and what it will have printed."""
    given = (settings.database_url, settings.data_dir, settings.stripe_api_base, body.decode(), NOW, times, *step)
    with TemporaryFile() as printed:
        process = TallyProcess(given, stdout=printed.fileno(), stderr=2, main="payment_sender")
        yield process, printed
        process.kill()
        process.wait()


def stripe_settings(database_url: str, folder: Path, stripe: FakeStripe) -> Settings:
    return Settings(
        database_url=database_url,
        data_dir=folder,
        stripe_api_key=KEY,
        stripe_webhook_secret=SECRET,
        stripe_api_base=stripe.url,
    )


def take(runtime: Runtime, body: bytes) -> TakenEvent:
    return take_callback(runtime, "stripe", signed(body), body)


def test_an_event_from_two_processes_at_once_and_killed_ones_counts_once(database_url: str, tmp_path: Path) -> None:
    with running_stripe() as stripe:
        settings = stripe_settings(database_url, tmp_path, stripe)
        with open_runtime(settings, lambda: NOW) as runtime:
            billed_org(runtime)
            said = {"invoice_id": "globex/2026-10"}
            body = stripe.event("payment_intent.succeeded", stripe.intent("pi_0", 100, metadata=said), "evt_0")
            with sender(settings, body, SENDERS) as (other, printed), ThreadPoolExecutor(SENDERS) as pool:
                told = list(pool.map(lambda _: take(runtime, body).receipt(), range(SENDERS)))
                assert other.wait(200) == 0
                printed.seek(0)
                told += json.load(printed)
            assert [one["state"] for one in told] == ["recorded"] * 2 * SENDERS
            assert sum(one["is_new"] for one in told) == 1
            assert money(runtime)["cash"] == 100
            assert [count(runtime, table) for table in ("payment_events", "payment_outcomes")] == [1, 1]

            body = stripe.event("payment_intent.succeeded", stripe.intent("pi_1", 100, metadata=said), "evt_1")
            with sender(settings, body, 1, "operations.committed") as (killed, printed):
                assert killed.wait(200) == -signal.SIGKILL
                assert os.fstat(printed.fileno()).st_size == 0
            assert money(runtime)["cash"] == 200
            again = take(runtime, body)
            assert (again.stored.state, again.is_new) == ("recorded", False)
            assert money(runtime)["cash"] == 200
            assert findings(runtime) == []


def test_what_was_begun_is_finished_when_the_event_comes_again(database_url: str, tmp_path: Path) -> None:
    with (
        running_stripe() as stripe,
        open_runtime(stripe_settings(database_url, tmp_path, stripe), lambda: NOW) as runtime,
    ):
        billed_org(runtime)
        for place, step in enumerate(STEPS, 1):
            intent = stripe.intent(f"pi_{place}", 100, metadata={"invoice_id": "globex/2026-10"})
            body = stripe.event("payment_intent.succeeded", intent, f"evt_{place}")

            def stop(name: str, step: str = step) -> None:
                if name == step:
                    raise Stopped

            steps.install(stop)
            with pytest.raises(Stopped):
                take(runtime, body)
            steps.install(None)
            moved = 100 * (place if step == "payments.settled" else place - 1)
            assert money(runtime).get("cash", 0) == moved, step
            kept = [one.state for one in list_payment_events(runtime, state="pending")]
            assert kept == ([] if step == "payments.verified" else ["pending"]), step
            if step == "payments.kept":
                stripe.status = 500  # what was confirmed and kept needs nobody to be asked
                assert retry_event(runtime, "stripe", f"evt_{place}").state == "recorded"
                stripe.status = None
            assert take(runtime, body).stored.state == "recorded"
            assert money(runtime)["cash"] == 100 * place
        assert findings(runtime) == []


def test_money_that_is_given_to_two_invoices_at_once_is_one_of_theirs(database_url: str, tmp_path: Path) -> None:
    with (
        running_stripe() as stripe,
        open_runtime(stripe_settings(database_url, tmp_path, stripe), lambda: NOW) as runtime,
    ):
        orgs = ("globex", "initech", "umbrella")
        billed_org(runtime, *orgs)
        body = stripe.event("payment_intent.succeeded", stripe.intent(amount=300))
        assert take(runtime, body).stored.state == "unmatched"

        def give(org_id: str) -> str:
            try:
                return str(assign_event(runtime, "stripe", "evt_1", f"{org_id}/2026-10", "ann").state)
            except Conflict as error:
                return error.code

        with ThreadPoolExecutor(3) as pool:
            answers = sorted(pool.map(give, orgs))
        assert answers[2] == "recorded"
        assert set(answers[:2]) <= {"payment_event_settled", "payment_counted_elsewhere"}
        assert sum(money(runtime, org_id).get("cash", 0) for org_id in orgs) == 300
        ((seqs, org_id),) = query(runtime, "select seqs, org_id from payment_outcomes where state = 'recorded'")
        assert money(runtime, org_id)["cash"] == 300
        assert len(seqs) == 1
        ((acts,),) = query(runtime, "select count(*) from administrative_acts where act = 'payment_event.assign'")
        assert acts == 1
        assert findings(runtime) == []
