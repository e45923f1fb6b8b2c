"""The recipe in the documentation works as it is printed: from real traces to replayed invoices."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "docs" / "recipe-azure-traces.md"
TRACES = ROOT / ".." / "shared" / "data"


@pytest.mark.skipif(not (TRACES / "azure_llm_2023_code.csv").exists(), reason="the recorded traces are not here")
def test_the_recipe_goes_from_csv_to_two_replayed_invoices(short_dir: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", RECIPE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    script = f'set -euo pipefail\ntally() {{ "{sys.executable}" -m tallystick "$@"; }}\n{blocks[0]}'
    environment = {**os.environ, "TALLY_DATA_DIR": str(short_dir), "TRACES": str(TRACES.resolve())}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("identical") == 2
    rows = sum(1 for _ in (TRACES / "azure_llm_2023_code.csv").open()) - 1
    with (tmp_path / "code-co-requests.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == rows
