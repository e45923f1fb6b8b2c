"""How many examples a costly property is tried with: a few by default, ten times as many in a long run."""

from __future__ import annotations

import os

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "tallystick")
"""`tallystick`, or `long`: `python3 tasks.py test --long`."""
TIMES = {"tallystick": 1, "long": 10}[PROFILE]


def examples(count: int) -> int:
    """So many, or ten times that. For properties whose examples take long: a database, a file, a machine of steps."""
    return count * TIMES
