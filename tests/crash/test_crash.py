"""The promises of the ledger, kept through SIGKILL: nothing acknowledged is lost, nothing is there twice, no gaps.

A short run; `python3 tasks.py crash [ROUNDS] [SEED]` plays hundreds of rounds.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from crash.rounds import Rounds, named_steps


@pytest.mark.timeout(600)
def test_a_server_killed_at_every_named_step_keeps_every_promise(begun_dir: Path) -> None:
    seed = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(2**32))
    rounds = sum(len(named_steps(f"{kind}.")) for kind in ("append", "seal", "erase")) + 2
    report = Rounds(begun_dir, seed).play(rounds)
    print(report)
    assert not report.wrongs, str(report)
    assert sum(report.kills.values()) == rounds
    assert report.promised > 100
    assert report.resent > 50


def test_the_steps_that_are_killed_at_are_those_of_writing_sealing_and_erasing() -> None:
    assert len(named_steps("append.")) >= 4
    assert len(named_steps("seal.")) >= 4
    assert len(named_steps("erase.")) >= 2
