"""From events to a proof that a customer checks, with the commands that people use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from invoicing import CONTRACT
from tally_processes import run_tally

EVENTS = [
    {
        "org_id": "globex",
        "request_id": f"r{number}",
        "time": "2026-10-15T12:00:00Z",
        "user_id": "somebody",
        "session_id": "s",
        "feature": "chat",
        "environment": "production",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "meters": {"tokens_in": 1000, "tokens_out": 10},
    }
    for number in range(5)
]


def tally(folder: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    environment = {"PATH": "/usr/bin:/bin", "TALLY_DATA_DIR": str(folder / "data"), **environment}
    done = run_tally(*arguments, env=environment, cwd=folder)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url}


def test_an_invoice_is_proved_to_somebody_without_the_ledger(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "acme.yaml").write_text(CONTRACT)
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in EVENTS))
    tally(tmp_path, "contract", "apply", "acme.yaml", **environment)
    plan = ("--contract", "acme", "--plan", "pro", "--from", "2026-01-01")
    tally(tmp_path, "orgs", "set", "globex", *plan, **environment)
    tally(tmp_path, "ingest", "events.jsonl", **environment)
    tally(tmp_path, "invoice", "close", "2026-10", **environment)
    tally(tmp_path, "proof", "invoice", "globex/2026-10", code=2, **environment)  # not sealed
    tally(tmp_path, "proof", "invoice", "globex/2026-10", "--seal", "-o", "proof.json.gz", **environment)
    note = tally(tmp_path, "checkpoint", "show", **environment)
    (tmp_path / "kept.note").write_text(note)
    sound = json.loads(tally(tmp_path, "verify", "--checkpoint", "kept.note", "--json", **environment))
    assert (sound["sound"], sound["entries"], sound["blocks"], sound["invoices"]) == (True, 5, 1, 1)
    assert "sound" in tally(tmp_path, "verify", **environment)
    # From here on there is neither database nor data directory.
    offline = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing", "TALLY_DATA_DIR": "/nonexistent"}
    checked = json.loads(tally(tmp_path, "verify", "--proof", "proof.json.gz", "--json", **offline))
    assert (checked["valid"], checked["events"], checked["trusted_by"]) == (True, 5, None)
    key = sound["keys"][0]
    for more in (("--key", key), ("--checkpoint", "kept.note"), ("--key", key, "--checkpoint", "kept.note")):
        found = json.loads(tally(tmp_path, "verify", "--proof", "proof.json.gz", *more, "--json", **offline))
        assert found["valid"], found
        assert found["trusted_by"] == more[0].strip("-")
    assert "valid: invoice" in tally(tmp_path, "verify", "--proof", "proof.json.gz", **offline)


def test_a_proof_that_does_not_hold_ends_with_code_1(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "acme.yaml").write_text(CONTRACT)
    tally(tmp_path, "contract", "apply", "acme.yaml", **environment)
    plan = ("--contract", "acme", "--plan", "pro", "--from", "2026-01-01")
    tally(tmp_path, "orgs", "set", "globex", *plan, **environment)
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in EVENTS))
    tally(tmp_path, "ingest", "events.jsonl", **environment)
    tally(tmp_path, "invoice", "close", "2026-10", **environment)
    proof: dict[str, Any] = json.loads(tally(tmp_path, "proof", "invoice", "globex/2026-10", "--seal", **environment))
    proof["entries"][2]["entry"]["fact"]["meters"]["tokens_in"] = 999
    (tmp_path / "forged.json").write_text(json.dumps(proof))
    told = tally(tmp_path, "verify", "--proof", "forged.json", code=1)
    assert "NOT valid" in told
    (tmp_path / "nothing.json").write_text("{}")
    tally(tmp_path, "verify", "--proof", "nothing.json", code=2)
    tally(tmp_path, "verify", "--proof", "missing.json", code=2)
