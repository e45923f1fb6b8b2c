"""Keeping freed memory changes how fast a replay is, and nothing else."""

from __future__ import annotations

import platform
import subprocess
import sys

_PROGRAM = """
import resource
import numpy as np
from tallystick.archive.replay_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        np.ones(1 << 20, dtype=np.int8).sum()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

done = keep_freed_memory()
faults()
print(done, faults())
"""


def test_memory_that_was_freed_is_not_asked_of_the_system_again() -> None:
    told = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, check=True, text=True).stdout.split()
    if platform.libc_ver()[0] == "glibc":
        assert told[0] == "True"
        assert int(told[1]) < 100  # 12,800 pages were written to
    else:
        assert told[0] == "False"
