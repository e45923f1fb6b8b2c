"""From the command line: what a provider told is seen and given to an invoice, and the books are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from billing import billed_org, money
from conftest import NOW
from fake_stripe import KEY, SECRET, running_stripe, signed
from hledger_reader import read_journal
from tally_processes import run_tally
from tallystick.app.payment_events import take_callback
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings


def tally(*arguments: str, code: int = 0) -> Any:
    done = run_tally(*arguments)
    assert done.returncode == code, done.stderr
    return done


def test_unmatched_money_is_assigned_and_the_books_say_so(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("TALLY_DATA_DIR", str(tmp_path))
    with running_stripe() as stripe:
        (tmp_path / "key").write_text(f"{KEY}\n")
        (tmp_path / "secrets").write_text(f"whsec_next\n{SECRET}\n")
        settings = Settings(
            stripe_api_key_file=tmp_path / "key",
            stripe_webhook_secret_file=tmp_path / "secrets",
            stripe_api_base=stripe.url,
        )
        with open_runtime(settings, lambda: NOW) as runtime:
            billed_org(runtime)
            euros = stripe.intent("pi_2", currency="eur", metadata={"invoice_id": "globex/2026-10"})
            for name, intent in (("evt_1", stripe.intent()), ("evt_2", euros)):
                body = stripe.event("payment_intent.succeeded", intent, name)
                take_callback(runtime, "stripe", signed(body), body)

            assert "evt_1" in tally("payments", "list").stdout
            (one,) = tally("payments", "list", "--state", "unmatched", "--json").stdout.splitlines()
            assert json.loads(one)["code"] == "invoice_not_named"
            assert "error" in tally("payments", "list", "--state", "lost", code=2).stderr
            assert "error" in tally("payments", "assign", "evt_9", "--invoice", "globex/2026-10", code=2).stderr
            said = tally("payments", "assign", "evt_1", "--invoice", "ACME-2026-000001", "--by", "ann").stdout
            assert said.startswith("evt_1: recorded")
            assert "refused" in tally("payments", "retry", "evt_2", code=1).stdout
            assert money(runtime)["cash"] == 1000

    file = tmp_path / "books.journal"
    tally("export", "books", "--output", str(file))
    assert read_journal(file.read_text())[0]["org:globex:cash", "USD"] == 10 * 10**12
    assert tally("export", "books", "--org", "globex").stdout == file.read_text()
    assert [path.name for path in tmp_path.glob(".books*")] == []
    for wrong in (
        ["--format", "beancount"],
        ["--from", "x"],
        ["--org", "nobody"],
        ["--from", "2026-02-01", "--to", "2026-01-01"],
    ):
        assert "error" in tally("export", "books", *wrong, code=2).stderr
    assert "error" in tally("export", "books", "--output", str(tmp_path / "none" / "books"), code=2).stderr
