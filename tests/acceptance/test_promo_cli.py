"""Promo codes and credits in money, as a person runs the commands."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from billing import OCTOBER, SELLER
from invoicing import apply, event, record, subscribe
from tally_processes import run_tally
from tallystick.app.runtime import Runtime

Tally = Callable[..., str]


@pytest.fixture
def tally(runtime: Runtime, database_url: str, tmp_path: Path) -> Tally:
    """Runs `tally`; what it prints, or of a refusal what it says."""
    apply(runtime, SELLER)
    subscribe(runtime, "globex")
    record(runtime, [event("r1", "globex")])
    environment = {"DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path)}

    def run(*arguments: str, code: int = 0) -> str:
        done = run_tally(*arguments, env={**os.environ, **environment})
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    return run


def test_promo_codes_and_credits_lower_an_invoice(tally: Tally) -> None:
    def asked(*arguments: str) -> Any:
        return json.loads(tally(*arguments, "--json"))

    assert tally("promo", "list") == ""
    tally("promo", "create", "spring24", "--percent", "20", "--invoices", "3", "--limit", "5", "--plan", "pro")
    assert "SPRING24  20 % of 3 invoices  open   0 of 5" in tally("promo", "list")
    redeemed = tally("promo", "redeem", "SPRING24", "--org", "globex")
    assert "promo code SPRING24 redeemed: 20 percent of the next 3 invoices" in redeemed
    assert "[promo_used]" in tally("promo", "redeem", "spring24", "--org", "globex", code=2)
    assert "[invalid_promo]" in tally("promo", "create", "none", code=2)
    given = asked("invoice-credits", "grant", "globex", "--usd", "25", "--reason", "sorry", "--request-id", "k1")
    assert (given["credit_id"], given["source"], given["left_usd"]) == ("k3", "goodwill", "25.00")
    issued = asked("invoice", "finalize", OCTOBER)
    assert (issued["applied_usd"], issued["due_usd"], issued["state"]) == ("10.00", "0.00", "paid")
    listed = tally("invoice-credits", "list", "globex")
    assert "globex: 17.00 USD left" in listed
    assert f"k3: 8.00 USD for {issued['number']}, {OCTOBER}" in listed
    assert "goodwill k3" in tally("invoice", "life", f"globex/{OCTOBER}")
    assert "invoice" in tally("credits", "history", "globex")
    assert "ended" in tally("promo", "end", "SPRING24", "--reason", "over")
    shown = tally("promo", "show", "SPRING24")
    assert "SPRING24: 20 % of 3 invoices, ended, redeemed 1 time\n" in shown
    assert "(over)" in shown
    tally("verify")
