"""`tally contract` and `tally quote`, run as a person runs them."""

from __future__ import annotations

import json
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from tally_processes import run_tally
from tallystick.app.contract_files import reference_text

HEAD = 'contract: acme\nversion: "1"\neffective_from: 2026-10-01T00:00:00Z\n'


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.yaml"
    path.write_text(reference_text(), encoding="utf-8")
    return path


def tally(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    ran = run_tally(*arguments, stdin=stdin)
    assert "Traceback" not in ran.stderr
    return ran


def quoted(*arguments: object) -> dict:
    done = tally("quote", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_quote_prices_each_meter_and_adds_up(reference):
    answer = quoted(reference, "--plan", "pro", "--quantity", "tokens_in=1234567", "--quantity", "tool_calls=12.5")
    assert (answer["contract"], answer["version"], answer["plan"]) == ("reference", "2026-10-01", "pro")
    assert (answer["total_usd"], answer["exact_total_usd"], answer["not_charged"]) == ("10.13", "10.1359567", {})
    assert [(line["kind"], line["meter"], line["quantity"], line["amount_usd"]) for line in answer["lines"]] == [
        ("base_fee", None, "1", "10.00"),
        ("usage", "tokens_in", "1234567", "0.12"),
        ("usage", "tool_calls", "12.5", "0.01"),
    ]
    for line in answer["lines"]:
        assert Fraction(line["amount_usd"]) + Fraction(line["residue_usd"]) == Fraction(line["exact_usd"])


def test_a_quote_shows_the_tiers_the_true_up_and_what_is_not_charged(reference):
    answer = quoted(reference, "--plan", "enterprise", "--quantity", "tokens_in=1200000000", "--quantity", "audio_ms=5")
    usage, true_up = answer["lines"]
    assert [(tier["tier"], tier["quantity"], tier["amount_usd"]) for tier in usage["tiers"]] == [
        (1, "1000000000", "100"),
        (2, "200000000", "14"),
    ]
    assert (true_up["kind"], true_up["meter"], true_up["amount_usd"]) == ("commit_true_up", None, "4886.00")
    assert answer["not_charged"] == {"audio_ms": "5"}
    assert answer["total_usd"] == "5000.00"


def test_a_correction_is_quoted_from_the_running_total_without_base_fee_or_true_up(tmp_path):
    path = tmp_path / "c.yaml"
    price = "{volume: [{up_to: 15, unit: 10}, {unit: 5}]}"
    path.write_text(f"{HEAD}plans: {{p: {{base: 5, commit: 500, prices: {{tool_calls: {price}}}}}}}\n")
    answer = quoted(path, "--plan", "p", "--quantity", "tool_calls=1", "--running", "tool_calls=15")
    assert [tier["amount_usd"] for tier in answer["lines"][0]["tiers"]] == ["-150", "80"]
    assert (len(answer["lines"]), answer["total_usd"]) == (1, "-70.00")
    down = quoted(path, "--plan", "p", "--quantity", "tool_calls=-2")
    assert down["lines"][1]["amount_usd"] == "-20.00"


def test_a_cost_plus_price_is_quoted_with_its_cost(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(f'{HEAD}plans: {{p: {{prices: {{tokens_in: {{cost_plus: "0.30"}}}}}}}}\n')
    answer = quoted(path, "--plan", "p", "--quantity", "tokens_in=10", "--cost", "tokens_in=0.5")
    assert answer["total_usd"] == "0.65"
    unknown = tally("quote", path, "--plan", "p", "--quantity", "tokens_in=10")
    assert (unknown.returncode, "cost_unknown" in unknown.stderr) == (2, True)


def test_everything_wrong_in_a_quote_is_said_at_once(reference):
    done = tally(
        "quote", reference, "--plan", "prro", "--quantity", "tokens_inn=1", "--quantity", "tool_calls=many",
        "--quantity", f"egress_bytes=1{'0' * 30}", "--running", "images_generated=1",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    for said in (
        "unknown_plan", "free, pro, enterprise", "did you mean 'tokens_in'?", "invalid_decimal", "quantity_too_large",
        "quantity_missing",
    ):  # fmt: skip
        assert said in done.stderr


@pytest.mark.parametrize("quantity", ["tokens_in", "=5", "tokens_in="])
def test_a_quantity_that_is_not_a_pair_is_refused(reference, quantity):
    done = tally("quote", reference, "--plan", "pro", "--quantity", quantity)
    assert (done.returncode, "METER=NUMBER" in done.stderr) == (2, True)


def test_a_quote_for_a_person_says_how_each_amount_came_about(reference):
    done = tally("quote", reference, "--plan", "pro", "--quantity", "tool_calls=1500", "--quantity", "audio_ms=2")
    assert done.returncode == 0
    assert "1,500 tool_calls: 1,500 × 0.001 USD each = 1.50 USD." in done.stdout
    assert "not charged: 2 audio_ms" in done.stdout


def test_check_reports_every_error_with_file_line_and_key_and_exits_2(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(f"{HEAD}currency: EUR\nplans:\n  p: {{base: 9.99, upgrade_to: q}}\n")
    done = tally("contract", "check", path)
    assert (done.returncode, done.stdout) == (2, "")
    for where in (f"{path}:4: currency: ", f"{path}:6: plans.p.base: ", f"{path}:6: plans.p.upgrade_to: "):
        assert where in done.stderr
    as_json = tally("contract", "check", path, "--json")
    answer = json.loads(as_json.stdout)
    assert (as_json.returncode, answer["valid"], len(answer["errors"])) == (2, False, 3)


def test_check_warns_on_stderr_and_still_says_valid(reference):
    done = tally("contract", "check", reference, "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["valid"], answer["contract"]) == (0, True, "reference")
    assert {warning["code"] for warning in answer["warnings"]} == {"unused_meter", "tokens_not_charged"}
    assert done.stderr.count("warning: ") == len(answer["warnings"])
    assert "valid: reference@2026-10-01, 7 plans" in tally("contract", "check", reference).stdout


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_contract"),
        (b"contract: \xff\xfe", "invalid_utf8"),
        (b"\x00\x01\x02", "invalid_contract"),
        (b"a: &x [*x]", "invalid_contract"),
        (b"#" * 2_000_000, "file_too_large"),
    ],
)
def test_a_file_that_is_no_contract_is_refused_in_a_sentence(tmp_path, content, code):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    done = tally("contract", "check", path)
    assert (done.returncode, f"[{code}]" in done.stderr) == (2, True)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "[file_not_found]" in tally("contract", "check", tmp_path / "none.yaml").stderr
    assert "[unreadable_file]" in tally("contract", "check", tmp_path).stderr


def test_a_contract_is_read_from_standard_input():
    assert tally("contract", "check", "-", stdin=reference_text().encode()).returncode == 0


def test_diff_exits_0_for_the_same_terms_and_1_for_others(reference, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(reference_text().replace('base: "10"', 'base: "12"'), encoding="utf-8")
    same = tally("contract", "diff", reference, reference)
    assert (same.returncode, same.stdout) == (0, "the same terms\n")
    differs = tally("contract", "diff", reference, other)
    assert (differs.returncode, differs.stdout) == (1, "plans.pro.base: 10.00 USD a month → 12.00 USD a month\n")
    as_json = tally("contract", "diff", reference, other, "--json")
    answer = json.loads(as_json.stdout)
    assert (as_json.returncode, answer["same"], answer["changes"][0]["path"]) == (1, False, "plans.pro.base")


def test_show_prints_the_price_list_and_example_a_file_to_begin_with(reference):
    shown = tally("contract", "show", reference, "--plan", "pro")
    assert "tokens_in         0.10 USD per 1,000,000" in shown.stdout
    assert (
        json.loads(tally("contract", "show", reference, "--json").stdout)["plans"]["pro"]["base"] == "10.00 USD a month"
    )
    assert tally("contract", "example").stdout == reference_text()
    assert tally("contract", "show", reference, "--plan", "gold").returncode == 2


def test_a_contract_is_applied_once_listed_and_found_by_name(reference, tmp_path, monkeypatch, database_url):
    monkeypatch.setenv("DATABASE_URL", database_url)
    first = json.loads(tally("contract", "apply", reference, "--json").stdout)
    again = json.loads(tally("contract", "apply", reference, "--json").stdout)
    assert (first["applied"], again["applied"]) == (True, False)
    assert (first["sha256"], first["applied_at"]) == (again["sha256"], again["applied_at"])
    (listed,) = json.loads(tally("contract", "list", "--json").stdout)
    assert (listed["contract"], listed["version"], listed["sha256"]) == ("reference", "2026-10-01", first["sha256"])
    assert tally("contract", "diff", "reference@2026-10-01", reference).returncode == 0
    assert "Pro (pro)" in tally("contract", "show", "reference").stdout

    changed = tmp_path / "changed.yaml"
    changed.write_text(reference_text().replace('base: "10"', 'base: "12"'), encoding="utf-8")
    conflict = tally("contract", "apply", changed)
    assert (conflict.returncode, "contract_version_exists" in conflict.stderr) == (2, True)
    assert tally("contract", "show", "reference@2027-01-01").returncode == 2
    assert "[unknown_contract]" in tally("contract", "show", "x" * 5000).stderr  # no file can have such a name
    (tmp_path / "reference").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "Pro (pro)" in tally("contract", "show", "reference").stdout  # whatever folder is called so


def test_a_contract_with_errors_is_not_applied_and_starts_no_database(tmp_path, monkeypatch):
    monkeypatch.setenv("TALLY_DATA_DIR", str(tmp_path / "data"))
    path = tmp_path / "bad.yaml"
    path.write_text(f"{HEAD}plans: {{p: {{base: 9.99}}}}\n")
    assert tally("contract", "apply", path).returncode == 2
    assert not (tmp_path / "data").exists()
