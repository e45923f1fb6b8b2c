"""A program that is given as text, in a process forked as commands are: see `tally_processes.run_program`."""

from __future__ import annotations

import sys


def main() -> None:
    """Be the program: as of `python -c`, its arguments begin at the second place."""
    program = compile(sys.argv.pop(1), "<program>", "exec")
    exec(program, {"__name__": "__main__"})
