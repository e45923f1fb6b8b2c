"""Wallets under fire: no overdraft, nothing resolved twice, nothing lost or doubled, whatever is killed and when.

Until enough has died and was promised; `python3 tasks.py bank [SECONDS] [SEED]` takes ten minutes.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from crash.bank import run
from crash.rounds import named_steps


@pytest.mark.timeout(400)
def test_wallets_add_up_while_64_clients_spend_and_processes_and_the_database_are_killed(begun_dir: Path) -> None:
    seed = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(2**32))

    def is_enough(kills: Counter[str], answers: int) -> bool:
        return kills.total() >= 14 and kills["database"] >= 1 and answers > 1000

    report = run(begun_dir, seconds=150, seed=seed, is_enough=is_enough)
    print(report)
    assert not report.wrongs, str(report)
    assert report.promises > 400
    assert report.kills.total() >= 14
    assert report.kills["database"] >= 1
    assert {"grant", "hold", "settlement", "release", "expiry", "refund", "usage"} <= set(report.entries)


def test_the_steps_that_are_killed_at_are_those_of_writing_operations() -> None:
    assert len(named_steps("operations.")) >= 5
