"""Processes that record are killed at any moment: what they were told is on disk is in the ledger, once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import httpx2

from tallystick_sdk import Tally

NO_TLS = False
"""What would be checked is read from files for each call anew, which takes longer than the call."""

ROUNDS = 4
VICTIM = """
    import random, sys
    from tallystick_sdk import Tally
    tally = Tally(base_url=sys.argv[1], spool=sys.argv[2], org_id=sys.argv[3], user_id="u", session_id="s",
                  feature="f", environment="production")
    while True:
        made = [tally.record(model="gpt-4o-mini", provider="openai", meters={"tokens_in": 1})
                for _ in range(random.randrange(1, 20))]
        for one in made:
            if one.wait():
                print(one.request_id, flush=True)
"""


def test_what_was_said_to_be_on_disk_is_in_the_ledger_once_whenever_its_process_is_killed(
    org: Any, tmp_path: Path
) -> None:
    spool, dice, told = tmp_path / "one.sqlite", random.Random(3), []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(ROUNDS):
        victims = [
            subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(VICTIM), org.url, str(spool), org.org_id],
                stdout=subprocess.PIPE, text=True, env=environment,
            )
            for _ in range(2)
        ]  # fmt: skip
        for victim in victims:
            assert victim.stdout is not None
            told.append(victim.stdout.readline().strip())
        time.sleep(dice.random() * 0.6)
        for victim in victims:
            victim.kill()
            said, _ = victim.communicate()
            told += said.split("\n")[:-1]  # the last line may have been cut
    with Tally(base_url=org.url, spool=spool) as tally:
        assert tally.flush(60)
        assert tally.stats().refused == 0
    stored = all_ids(org)
    assert len(told) > ROUNDS
    assert set(told) <= set(stored)
    assert len(stored) == len(set(stored))


def all_ids(org: Any) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        more = f"&cursor={cursor}" if cursor else ""
        page = httpx2.get(f"{org.url}/v1/orgs/{org.org_id}/events?limit=500{more}", verify=NO_TLS).json()
        found += [event["request_id"] for event in page["events"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
