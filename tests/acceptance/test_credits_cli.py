"""Credits, holds, budgets, exceptions and standing, as a person runs the commands."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from accounts import open_shop
from tally_processes import run_tally
from tallystick.app.runtime import Runtime
from tallystick.core.instants import format_instant

Tally = Callable[..., "Done"]


class Done(NamedTuple):
    """What a command printed."""

    stdout: str
    stderr: str


@pytest.fixture
def environment(runtime: Runtime, database_url: str, tmp_path: Path) -> dict[str, str]:
    """That of a shop whose orgs are on plans since October; its clock is the machine's."""
    open_shop(runtime, acme="wallet", globex="monthly", initech="metered")
    return {"DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path)}


@pytest.fixture
def tally(environment: dict[str, str]) -> Tally:
    """Runs `tally`."""

    def run(*arguments: object, code: int = 0) -> Done:
        done = run_tally(*arguments, env={**os.environ, **environment})
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return Done(done.stdout, done.stderr)

    return run


def answer(done: Done) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_credits_are_granted_held_charged_refunded_and_accounted_for(tally: Tally) -> None:
    denied = tally("authorize", "acme", "--action", "tailor", code=1)
    assert denied.stdout.startswith("denied, insufficient_credits: ")
    assert "next: " in denied.stdout

    grant = (
        "credits",
        "grant",
        "acme",
        "100",
        "--reason",
        "welcome",
        "--author",
        "ann",
        "--request-id",
        "g1",
        "--json",
    )
    granted = answer(tally(*grant))
    assert (granted["credits"], granted["source"], granted["author"]) == ("100", "goodwill", "ann")
    assert answer(tally(*grant)) == granted

    held = answer(tally("authorize", "acme", "--action", "tailor", "--work", "d1", "--user", "u7", "--json"))
    name = held["hold"]["hold_id"]
    listed = tally("holds", "list", "acme").stdout
    assert (name in listed, "u7" in listed) == (True, True)

    call = ("--model", "gpt-4o", "--meter", "tokens_in=1000", "--meter", "tokens_out=100")
    done = answer(tally("settle", "acme", name, *call, "--json"))
    assert (done["charged_credits"], done["cost_usd"]) == ("5", "0.0035")
    assert tally("settle", "acme", name, "--outcome", "failure", code=2).stderr.count("hold_resolved") == 1

    refund = ("credits", "refund", "acme", done["settlement_id"], "--credits", "2", "--reason", "late")
    assert "2 credits" in tally(*refund).stdout
    assert tally("credits", "show", "acme").stdout.splitlines()[0] == "acme: 97 available, 0 held"

    history = [json.loads(line) for line in tally("credits", "history", "acme", "--json").stdout.splitlines()]
    assert [one["kind"] for one in history] == ["denial", "grant", "hold", "settlement", "refund"]
    last = tally("credits", "history", "acme", "--last", "1").stdout
    assert "+2  2 credits of settlement" in last

    explained = tally("entry", "show", "acme", name).stdout
    assert "action tailor for d1 was allowed" in explained
    assert f"then {done['settlement_id']}" in explained


def test_a_hold_is_released_by_hand(tally: Tally) -> None:
    tally("credits", "grant", "acme", "10", "--reason", "welcome")
    held = answer(tally("authorize", "acme", "--action", "tailor", "--json"))
    released = tally("holds", "release", "acme", held["hold"]["hold_id"], "--reason", "gave up").stdout
    assert "5 credits given back" in released
    assert "10 available, 0 held" in released
    assert "has no open hold" in tally("holds", "list", "acme").stderr


def test_budgets_and_exceptions_are_set_listed_and_end(tally: Tally) -> None:
    tally("budgets", "set", "initech", "cap", "--max", "0", "--per", "day")
    assert "cap  org  0 + 0 held of 0 USD of cost a day  hard" in tally("budgets", "list", "initech").stdout
    call = ("authorize", "initech", "--model", "gpt-4o", "--meter", "tokens_in=1500")
    assert "hard_limit_reached" in tally(*call, code=1).stdout

    ends = format_instant(datetime.now(UTC) + timedelta(days=30))
    signed = ("--author", "ann", "--approved-by", "bob", "--reason", "a trial", "--expires", ends)
    bends = ("--limit", "tokens_in+tokens_out per day=5_000", "--allow-overspend")
    made = tally("overrides", "add", "initech", *signed, *bends).stdout
    assert "an exception for initech until" in made
    assert "by ann, signed off by bob: a trial" in tally("overrides", "list", "initech").stdout
    limits = tally("orgs", "limits", "initech").stdout
    assert f"0 + 0 held of 5,000, by exception {made.split(':')[0]}" in limits
    assert "budget cap (org)" in limits
    allowed = answer(tally(*call, "--json"))
    assert allowed["decision"]["overrides"] == [made.split(":")[0]]

    refused = tally("overrides", "add", "initech", *signed, "--author", "bob", "--limit", "1=none", code=2)
    assert "same_person" in refused.stderr
    tally("budgets", "remove", "initech", "cap")
    assert "has no budget" in tally("budgets", "list", "initech").stderr


def test_an_org_is_suspended_taken_up_again_and_shadowed(tally: Tally) -> None:
    assert "suspended" in tally("orgs", "suspend", "acme", "--reason", "unpaid").stdout
    assert "org_suspended" in tally("authorize", "acme", "--action", "explore", code=1).stdout
    tally("orgs", "resume", "acme")
    tally("orgs", "shadow", "acme")
    passed = answer(tally("authorize", "acme", "--action", "tailor", "--json"))["decision"]
    assert (passed["allow"], passed["enforced"]["code"]) == (True, "insufficient_credits")
    tally("orgs", "shadow", "acme", "--mode", "plan")
    assert "insufficient_credits" in tally("authorize", "acme", "--action", "tailor", code=1).stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("credits", "grant", "acme", "-5", "--reason", "x"), "invalid_amount"),
        (("credits", "grant", "acme", "0", "--reason", "x"), "invalid_amount"),
        (("credits", "grant", "globex", "5", "--reason", "x", "--source", "top_up"), "top_up_not_available"),
        (("credits", "show", "nobody"), "unknown_org"),
        (("credits", "refund", "acme", "h1", "--reason", "x"), "invalid_id"),
        (("settle", "acme", "h1", "--model", "gpt-4o"), "invalid_option"),
        (("entry", "show", "acme", "the first"), "invalid_id"),
    ],
)
def test_what_cannot_be_meant_is_refused(tally: Tally, arguments: tuple[str, ...], code: str) -> None:
    assert code in tally(*arguments, code=2).stderr


def test_the_price_list_of_a_plan_is_its_customers(tally: Tally) -> None:
    lines = tally("orgs", "actions", "globex").stdout.splitlines()
    assert lines[0] == "globex: Monthly (monthly) of shop@1"
    assert [line.split("  ")[1] for line in lines[1:]] == ["explore", "tailor", "research"]
    assert "not in this plan, but in wallet" in lines[3]


def test_versions_name_every_contract_and_rate_card_with_its_hash(tally: Tally) -> None:
    lines = tally("versions").stdout.splitlines()
    assert lines[0].startswith("tallystick ")
    assert [line for line in lines if line.startswith("contract shop@1, in force since 2026-10-01T00:00:00Z, sha256 ")]
    found = answer(tally("versions", "--json"))
    assert found["contracts"][0]["sha256"] in "".join(lines)
