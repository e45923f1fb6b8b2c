"""Wallets under fire: no overdraft, nothing resolved twice, nothing lost or doubled, whatever is killed and when.

For 24 seconds; `python3 tasks.py bank [SECONDS] [SEED]` takes ten minutes.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from crash.bank import run
from crash.rounds import named_steps


@pytest.mark.timeout(400)
def test_wallets_add_up_while_64_clients_spend_and_processes_and_the_database_are_killed(begun_dir: Path) -> None:
    seed = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(2**32))
    report = run(begun_dir, seconds=float(os.environ.get("BANK_SECONDS") or 24), seed=seed)
    print(report)
    assert not report.wrongs, str(report)
    assert report.promises > 400
    assert sum(report.kills.values()) >= 10
    assert report.kills["database"] >= 1
    assert {"grant", "hold", "settlement", "release", "expiry", "refund", "usage"} <= set(report.entries)


def test_the_steps_that_are_killed_at_are_those_of_writing_operations() -> None:
    assert len(named_steps("operations.")) >= 5
