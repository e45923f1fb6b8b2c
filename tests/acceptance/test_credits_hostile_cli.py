"""Commands on credits, holds and exceptions, given what no person means: a sentence and an exit code, no traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from accounts import give, open_shop
from tally_processes import run_tally
from tallystick.app.runtime import Runtime
from tallystick.core.instants import format_instant

Tally = Callable[..., tuple[str, str]]
SOON = format_instant(datetime.now(UTC) + timedelta(days=30))
SIGNED = ("--approved-by", "bob", "--author", "ann", "--reason", "x", "--expires", SOON)


@pytest.fixture
def tally(runtime: Runtime, database_url: str, tmp_path: Path) -> Tally:
    """Runs `tally` for a shop where acme has 20 credits and initech pays for what it uses."""
    open_shop(runtime, acme="wallet", initech="metered")
    give(runtime, "20")
    environment = {"DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path)}

    def run(*arguments: str, code: int = 0) -> tuple[str, str]:
        done = run_tally(*arguments, env={**os.environ, **environment})
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("{", "malformed_json"),
        ("[]", "not_an_object"),
        ("[" * 100_000, "nested_too_deep"),
        ('{"request_id": "a", "request_id": "b"}', "duplicate_key"),
        ('{"meters": NaN}', "malformed_json"),
        ('{"meters": 1e999}', "number_out_of_range"),
    ],
)
def test_an_event_of_a_settlement_is_read_as_strictly_as_over_http(tally: Tally, event: str, expected: str) -> None:
    _, stderr = tally("settle", "acme", "h1", "--event", event, code=2)
    assert f"[{expected}]" in stderr
    assert "next: " in stderr


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (["1=" + "9" * 5000], "invalid_option"),
        (["1=" + "9" * 30], "invalid_number"),
        (["9" * 5000 + "=1"], "unknown_limit"),
        (["1=5000", "1=6000"], "invalid_option"),
        (["1=5000", "tokens_in+tokens_out per day=6000"], "duplicate_value"),
        (["1"], "invalid_option"),
    ],
)
def test_a_limit_that_nobody_can_have_meant_is_refused(tally: Tally, limits: list[str], expected: str) -> None:
    options = [part for limit in limits for part in ("--limit", limit)]
    _, stderr = tally("overrides", "add", "initech", *options, *SIGNED, code=2)
    assert f"[{expected}]" in stderr
    assert "has no exception in force" in tally("overrides", "list", "initech")[1]


def test_a_list_of_exceptions_says_what_each_bends(tally: Tally) -> None:
    bends = ("--limit", "1=5_000", "--limit", "2=none", "--allow-action", "tailor", "--allow-model", "gpt-*")
    tally("overrides", "add", "initech", *bends, "--allow-overspend", "--credits", "2.5", *SIGNED)
    listed, _ = tally("overrides", "list", "initech")
    assert (
        "limit 1 of plan metered: 5,000; limit 2 of plan metered: none; actions tailor; models gpt-*; "
        "hard budgets are let pass; 2.5 credits" in listed
    )


def test_an_id_of_another_kind_of_entry_is_not_answered_with_that(tally: Tally) -> None:
    assert "acme g1, a grant" in tally("entry", "show", "acme", "g1")[0]
    assert "acme g1, a grant" in tally("entry", "show", "acme", "1")[0]
    stdout, stderr = tally("entry", "show", "acme", "h1", code=2)
    assert stdout == ""
    assert "acme has no h1: its entry 1 is g1, a grant [unknown_entry]" in stderr


def test_a_settlement_may_be_bounded_by_hand(tally: Tally) -> None:
    tally("authorize", "acme", "--action", "tailor")
    for charge, expected in [
        ("5.000000000001", "settle_above_hold"),
        ("-1", "invalid_amount"),
        ("x", "invalid_decimal"),
    ]:
        assert f"[{expected}]" in tally("settle", "acme", "h2", "--charge", charge, code=2)[1]
    stdout, _ = tally("settle", "acme", "h2", "--charge", "1.5")
    assert "s3: 1.5 credits charged" in stdout
    assert "wallet: 18.5 available, 0 held" in stdout
