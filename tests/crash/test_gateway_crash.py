"""Whoever has a complete answer of the gateway finds its entry in the ledger, whenever the server was killed.

A short run; `python3 tasks.py gateway-crash [ROUNDS] [SEED]` plays hundreds of rounds.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from crash.gateway_rounds import GatewayRounds
from crash.rounds import named_steps


@pytest.mark.timeout(300)
def test_a_gateway_killed_at_every_named_step_loses_no_answered_call(begun_dir: Path) -> None:
    seed = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(2**32))
    rounds = len(named_steps("operations.")) + len(named_steps("settlements.")) + 3
    report = GatewayRounds(begun_dir, seed).play(rounds)
    print(report)
    assert not report.wrongs, str(report)
    assert report.kills.total() == rounds
    assert report.answered["settled"] > 50
    assert report.answered["queued"] > 10
    assert report.cut > rounds
