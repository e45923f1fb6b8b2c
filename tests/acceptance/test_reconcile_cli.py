"""`tally reconcile`, as a person runs it."""

from __future__ import annotations

import gzip
import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from journal_helpers import raw_event
from provider_exports import bucket, page, result, seconds, text
from tally_processes import run_tally

BEGIN = seconds(date(2026, 10, 15))


def export(**used: Any) -> dict[str, Any]:
    """OpenAI's usage of 15 October: of gpt-4o, two requests of 1000 tokens in and 10 out."""
    figures = {"input_tokens": 2000, "output_tokens": 20, "num_model_requests": 2, **used}
    return page([bucket(BEGIN, BEGIN + 86_400, [result("gpt-4o-2024-08-06", **figures)])])


class Tally:
    """Runs `tally` on a database of its own."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "DATABASE_URL": database_url, "TALLY_DATA_DIR": str(folder)}

    def __call__(self, *arguments: str, code: int = 0, stdin: bytes = b"") -> tuple[str, str]:
        """Standard output and error of one run, whose exit code is as expected."""
        done = run_tally(*arguments, stdin=stdin, env=self.environment, cwd=self.folder)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr


@pytest.fixture
def used(database_url: str, tmp_path: Path) -> Tally:
    tally = Tally(database_url, tmp_path)
    guessed = raw_event("b", usage_status="estimated", model="gpt-4o-2024-08-06")
    tally("ingest", "-", stdin=b"\n".join(map(text, (raw_event("a", model="gpt-4o-2024-08-06"), guessed))))
    return tally


def test_equal_and_packed_and_from_standard_input(used: Tally) -> None:
    (used.folder / "usage.json.gz").write_bytes(gzip.compress(text(export())))
    out, errors = used("reconcile", "usage.json.gz", "--provider", "openai")
    assert out == "openai, 2026-10-15 through 2026-10-15: 1 days and models compared, 0 differ\n"
    assert errors == ""
    out, _ = used("reconcile", "-", "--provider", "openai", "--json", stdin=text(export()))
    told = json.loads(out)
    assert (told["equal"], told["cells"][0]["requests"]) == (True, {"provider": 2, "ledger": 2, "difference": 0})


def test_differences_are_shown_with_reasons_and_entries_are_written_when_asked_for(used: Tally) -> None:
    (used.folder / "usage.json").write_bytes(text(export(output_tokens=15)))
    ask = ("reconcile", "usage.json", "--provider", "openai")
    out, _ = used(*ask, code=1)
    assert "2026-10-15  gpt-4o\n" in out
    assert "  tokens_out        15      20          -5\n" in out
    assert "estimates: 1 request here is estimated; were they the cause: 10 tokens_out would be 5" in out
    assert "offered: acme, entry 2: -5 tokens_out, -0.00005 USD" in out
    assert "1 entries are offered; --apply --by NAME --reason TEXT writes them" in out
    _, errors = used(*ask, "--apply", code=2)
    assert "[missing_option]" in errors
    out, _ = used(*ask, "--apply", "--by", "ann", "--reason", "October's export", "--json", code=1)
    assert json.loads(out)["applied"] == {"entries": 1, "already_there": 0}
    out, _ = used(*ask, "--apply", "--by", "ann", "--reason", "October's export", "--all")
    assert "0 differ" in out
    assert "0 entries written" in out
    out, _ = used("verify", "--json")
    assert json.loads(out)["findings"] == []
    out, _ = used("entry", "show", "acme", "3")
    assert "entry 2 was adjusted: -5 tokens_out, at -0.00005 USD of cost" in out


def test_what_is_of_no_one_request_is_booked_to_whom_it_is_said(used: Tally) -> None:
    (used.folder / "usage.json").write_bytes(text(export(output_tokens=25, num_model_requests=3)))
    ask = ("reconcile", "usage.json", "--provider", "openai")
    out, _ = used(*ask, code=1)
    assert "more_calls_there: 1 request more at the provider: calls that did not pass here" in out
    assert "no entry is offered: the number of calls differs, too; it is of no one request: --book-to ORG" in out
    apply = ("--book-to", "acme", "--environment", "development", "--apply", "--by", "ann", "--reason", "x")
    out, _ = used(*ask, *apply, code=1)
    assert "written as a3: acme, the day, in development: +5 tokens_out, +0.00005 USD" in out


BAD = [
    (("nowhere.json", "--provider", "openai"), "file_not_found"),
    ((".", "--provider", "openai"), "unreadable_file"),
    (("usage.json", "--provider", "openai", "--payer", "me"), "invalid_payer"),
    (("usage.json", "--provider", "openai", "--map", "p"), "invalid_option"),
    (("usage.json", "--provider", "openai", "--tolerance", "101"), "invalid_tolerance"),
    (("usage.json", "--provider", "openai", "--tolerance", "x"), "invalid_decimal"),
    (("usage.json", "--provider", "openai", "--from", "yesterday"), "invalid_time"),
    (("usage.json", "--provider", "openai", "--from", "2026-10-16"), "invalid_period"),
    (("usage.json", "--provider", "openai", "--org", "nobody"), "unknown_org"),
    (("usage.json", "--provider", " "), "invalid_text"),
    (("cut.gz", "--provider", "openai"), "malformed_gzip"),
    (("broken.json", "--provider", "openai"), "malformed_json"),
]


def test_bad_input_is_named(used: Tally) -> None:
    (used.folder / "usage.json").write_bytes(text(export()))
    (used.folder / "broken.json").write_bytes(b'{"data": [')
    (used.folder / "cut.gz").write_bytes(gzip.compress(text(export()))[:-20])
    for arguments, code in BAD:
        _, errors = used("reconcile", *arguments, code=2)
        assert f"[{code}]" in errors, arguments


def test_tolerances_let_small_differences_pass(used: Tally) -> None:
    (used.folder / "usage.json").write_bytes(text(export(input_tokens=2010)))
    used("reconcile", "usage.json", "--provider", "openai", code=1)
    out, _ = used("reconcile", "usage.json", "--provider", "openai", "--tolerance", "0.5", "--all")
    assert "tolerated: the provider has +10 tokens_in, which is tolerated" in out
