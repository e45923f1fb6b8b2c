"""`tally invoice export --format pdf`, html and focus, as a person runs them."""

from __future__ import annotations

import os
from pathlib import Path

from billing import billed_org
from tally_processes import run_tally
from tallystick.app.invoice_documents import render_document
from tallystick.app.runtime import Runtime


def test_an_invoice_is_written_as_the_same_document_twice(runtime: Runtime, database_url: str, tmp_path: Path) -> None:
    billed_org(runtime)
    environment = {**os.environ, "DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path)}
    for name in ("pdf", "html", "focus"):
        files = [tmp_path / f"{turn}.{name}" for turn in (1, 2)]
        for file in files:
            done = run_tally(
                "invoice", "export", "ACME-2026-000001", "--format", name, "--output", str(file), env=environment
            )
            assert (done.returncode, done.stdout) == (0, ""), done.stderr
        here = b"".join(render_document(runtime, "globex/2026-10", name))
        assert [file.read_bytes() for file in files] == [here, here]
    shown = run_tally("invoice", "export", "globex/2026-10", "--format", "html", env=environment)
    assert shown.stdout.startswith("<!doctype html>")
