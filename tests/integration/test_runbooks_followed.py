"""The runbooks, followed command by command on a ledger that has what they are about."""

from __future__ import annotations

import os
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from billing import SELLER
from invoicing import apply, event, record, subscribe
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.cli.main import command

BOOKS = Path(__file__).resolve().parents[2] / "docs" / "runbooks"
FOLLOWED = (
    "disputed-invoice", "double-charge-suspected", "billing-incident", "missing-rollup", "restore-from-backup",
)  # fmt: skip
SAID = {
    "tally dispute open": r"q\d+ of globex: open",
    "tally dispute check": "valid",
    "tally dispute uphold": "upheld",
    "tally invoice replay": "identical",
    "tally find": "in all: 0.00021 USD",
    "tally verify": "sound: ",
    "tally verify --checkpoint": "the log continues the checkpoint",
    "tally spool": "0 events wait; 0 were refused",
    "tally settlements": "0 settlements wait; 0 were refused",
    "tally replay": "identical",
    "tally incidents record": "inc1  downtime",
    "tally jobs run rollups": "entries of 1 orgs were added up",
    "tally rollup rebuild": "the days of 1 orgs were made again",
    "tally restore": r"entries of 1 orgs and \d blocks",
    "tally ingest": r"accepted +1\n",
}
"""What a command must say, by how it begins; the longest beginning counts."""


def typed(page: str) -> list[str]:
    """The commands of a page's blocks, but for what is an alternative to the one before."""
    text = (BOOKS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```console\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    found = [line.strip()[2:] for block in blocks for line in block.splitlines() if line.strip().startswith("$ ")]
    return [line for line in found if "tally " in line and "dispute reject" not in line]


@pytest.fixture
def place(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Requests of October on an invoice, one of them sent under two ids, sealed; and a request that is sent later."""
    monkeypatch.chdir(tmp_path)
    settings = Settings(database_url=database_url, data_dir=tmp_path / "data")
    with open_runtime(settings) as runtime:
        apply(runtime, SELLER.replace("per: 1_000_000", "per: 1_000"))
        subscribe(runtime, "globex")
        at = datetime(2026, 10, 4, 12, tzinfo=UTC)
        record(runtime, [event(one, time=at) for one in ("r3-retry", *(f"r{n}" for n in range(1, 40)))])
    environment = {"DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path / "data")}
    for line in (
        "tally invoice finalize 2026-10 --org globex",
        "tally seal --all",
        "tally checkpoint show > kept.checkpoint",
    ):
        run(line, environment)
    (tmp_path / "events-since-the-backup.jsonl").write_text(
        '{"org_id":"globex","request_id":"since","time":"2026-11-01T00:00:00Z","provider":"openai","model":"gpt-4o-mini",'
        '"meters":{"tokens_in":1},"feature":"assistant","environment":"production","user_id":"u","session_id":"s"}\n'
    )
    return environment


def run(line: str, environment: dict[str, str]) -> str:
    """What a command says, as it is typed in a shell."""
    words = shlex.split(line, comments=True)
    end = words.index(">") if ">" in words else len(words)
    done = CliRunner().invoke(command(), words[1:end], env=environment)
    # The doctor finds that the tests' server keeps nothing on the disk.
    assert done.exit_code == 0 or words[1] == "doctor", (line, done.output, done.stderr)
    if end < len(words):
        Path(words[end + 1]).write_text(done.stdout)
    return done.stdout


def test_each_command_works_and_says_what_the_page_says(
    place: dict[str, str], empty_database_url: str, tmp_path: Path
) -> None:
    dispute = "q43"
    for page in FOLLOWED:
        here = place
        if page == "restore-from-backup":
            run("tally backup 2026-11-21.backup", place)
        for typed_line in typed(page):
            line = re.sub(r"^TALLY_DATA_DIR=\S+ ", "", typed_line).replace("q43", dispute)
            line = line.replace("/var/lib/tallystick-new", str(tmp_path / "new"))
            if line.startswith("tally restore") and "--check" not in line:
                here = {**place, "DATABASE_URL": empty_database_url, "TALLY_DATA_DIR": str(tmp_path / "new")}
            said = run(line, here)
            begins = max((one for one in SAID if line.startswith(one)), key=len, default=None)
            if begins is not None:
                assert re.search(SAID[begins], said), (page, line, said)
            if line.startswith("tally dispute open"):
                dispute = said.split()[0]
    assert os.listdir(tmp_path / "new" / "blocks")
