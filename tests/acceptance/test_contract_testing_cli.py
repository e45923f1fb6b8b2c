"""`tally contract test`, `diff --orgs`, `simulate` and `shadow-report`, as a person runs them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from accounts import CONTRACT, end, give, hold, open_shop
from tally_processes import run_tally
from tallystick.app.contract_cases import reference_cases_text
from tallystick.app.contract_files import reference_text
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.app.standing import set_mode

CASE = """
cases:
  - name: A document costs five
    given: {plan: credits, wallet: [{credits: 10}]}
    when: {authorize: {action: tailor_document}}
    then: {decision: allow, quoted: 5, wallet: {available: 5, held: 5}}
  - name: A search costs three
    given: {plan: credits, wallet: [{credits: 10}]}
    when:
      - authorize: {action: enrich_email}
      - settle: {outcome: empty}
    then: {charged: 3}
"""


def tally(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return run_tally(*arguments, stdin=stdin.encode())


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.yaml"
    path.write_text(reference_text(), encoding="utf-8")
    return path


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    path = tmp_path / "cases.yaml"
    path.write_text(CASE, encoding="utf-8")
    return path


def test_the_cases_that_come_with_the_reference_contract_pass(reference):
    printed = tally("contract", "example", "--cases")
    assert printed.stdout == reference_cases_text()
    done = tally("contract", "test", reference, "-", stdin=printed.stdout)
    count = printed.stdout.count("  - name: ")
    assert count >= 30
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{count} cases: {count} passed, 0 failed, on reference@2026-10-01" in done.stdout


def test_a_case_that_fails_is_told_member_by_member_and_exits_1(reference, cases):
    done = tally("contract", "test", reference, cases)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "ok    A document costs five",
        "FAIL  A search costs three (line 7)",
        "      step 2, settle, on line 11:",
        "        charged  expected  3",
        "                 got       2",
        "        2 credits for 'Find an email address'.",
        "2 cases: 1 passed, 1 failed, on reference@2026-10-01",
    ]
    found = json.loads(tally("contract", "test", reference, cases, "--json").stdout)
    assert (found["cases"], found["passed"], found["failed"]) == (2, 1, 1)
    (step,) = [step for step in found["results"][1]["steps"] if step["differences"]]
    assert step["differences"] == [{"member": "charged", "expected": "3", "got": "2"}]
    assert step["got"]["wallet.available"] == "8"


def test_one_case_can_be_run_alone(reference, cases):
    assert tally("contract", "test", reference, cases, "--only", "A document costs five").returncode == 0
    unknown = tally("contract", "test", reference, cases, "--only", "A document costs fife")
    assert (unknown.returncode, "did you mean 'A document costs five'?" in unknown.stderr) == (2, True)


def test_a_case_that_contradicts_itself_exits_2_with_its_line(reference, cases):
    cases.write_text(CASE.replace("decision: allow, quoted: 5", "decision: allow, code: budget_exceeded"))
    done = tally("contract", "test", reference, cases)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        f"{cases}:6: A document costs five.then: it is allowed, and budget_exceeded is a reason to deny" in done.stderr
    )
    assert "[case_contradiction]" in done.stderr
    assert tally("contract", "test", reference, cases.parent / "none.yaml").returncode == 2


def test_diff_says_for_whom_and_with_a_database_who_that_is_now(tmp_path, database_url, monkeypatch):
    before, after = tmp_path / "a.yaml", tmp_path / "b.yaml"
    before.write_text(CONTRACT, encoding="utf-8")
    after.write_text(CONTRACT.replace("price: {credits: 5}", "price: {credits: 6}"), encoding="utf-8")
    done = tally("contract", "diff", before, after)
    assert (done.returncode, done.stdout) == (
        1,
        "actions.tailor.price: 5 credits → 6 credits (for wallet, monthly)\n",
    )
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("TALLY_DATA_DIR", str(tmp_path / "data"))
    with open_runtime(Settings()) as runtime:
        open_shop(runtime, acme="wallet", beta="metered", gamma="wallet")
    told = tally("contract", "diff", before, after, "--orgs")
    assert told.stdout.splitlines()[1:] == ["wallet: 2 orgs now: acme, gamma", "monthly: 0 orgs now"]
    found = json.loads(tally("contract", "diff", before, after, "--orgs", "--json").stdout)
    assert found["plans"][0] == {"plan": "wallet", "changes": ["actions.tailor.price"], "orgs": ["acme", "gamma"]}


def test_shadow_mode_is_reported_and_a_draft_is_simulated(tmp_path, database_url, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("TALLY_DATA_DIR", str(tmp_path / "data"))
    with open_runtime(Settings()) as runtime:
        open_shop(runtime, acme="wallet")
        set_mode(runtime, "acme", "shadow", author="ann")
        give(runtime, "5")
        for name in ("a1", "a2"):
            end(runtime, hold(runtime, name)["hold"]["hold_id"])
    report = tally("contract", "shadow-report")
    assert report.returncode == 0
    assert "would have been stopped: 1 requests of 1 orgs; 1 of them were done" in report.stdout
    assert "  acme  wallet  tailor  insufficient_credits: 1, " in report.stdout
    found = json.loads(tally("contract", "shadow-report", "--org", "acme", "--json").stdout)
    assert found["would_stop"]["credits_not_charged"] == "5"

    draft = tmp_path / "draft.yaml"
    draft.write_text(CONTRACT.replace("price: {credits: 5}", "price: {credits: 2}"), encoding="utf-8")
    period = ("--from", "2026-10-01", "--to", "2100-01-01")
    too_long = tally("contract", "simulate", draft, *period)
    assert (too_long.returncode, "[period_too_long]" in too_long.stderr) == (2, True)
    simulated = tally("contract", "simulate", draft, "--from", "2026-10-01", "--to", "2029-01-01", "--json")
    found = json.loads(simulated.stdout)
    assert found["credits"] == {"charged_before": "5", "charged_after": "4", "change": "-1"}
    told = tally("contract", "simulate", draft, "--from", "2026-10-01", "--to", "2029-01-01", "--org", "acme")
    assert "credits charged: 5 before, 4 after (-1)" in told.stdout
    assert "acme (wallet): " in told.stdout
    same = tally("contract", "simulate", "shop", "--from", "2026-10-01", "--to", "2026-11-01")
    assert same.stdout.splitlines()[-1] == "1 other orgs: nothing changes"
