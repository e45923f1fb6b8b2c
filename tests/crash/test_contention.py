"""Sixty-four writers on ten orgs, in four processes, sending every id up to five times: the counts are exact.

A short run; `python3 tasks.py contention [SECONDS] [SEED]` takes a minute.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from crash.contention import run


def test_ids_sent_again_and_again_from_many_processes_are_stored_once(database_url: str, short_dir: Path) -> None:
    seed = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(2**32))
    report = run(database_url, short_dir, seconds=3, seed=seed)
    assert report["wrongs"] == [], report
    assert report["sent"] > report["ids"] > 100
