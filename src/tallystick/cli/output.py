"""How commands speak: data on stdout, messages and progress on stderr, exit codes that mean something.

Exit codes: 0 done; 1 done, and the answer is no (a difference, a rejected event, a refused contract);
2 the command or its input is wrong, nothing was done; 3 something the command needs cannot be reached.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tallystick.core.errors import BadInput, Problems, TallyError, Unavailable

EXIT_NO = 1
EXIT_BAD_INPUT = 2
EXIT_UNAVAILABLE = 3

_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but for tabs and line feeds, and those that turn the direction of writing."""

stdout = Console(soft_wrap=True, highlight=False)
stderr = Console(stderr=True, soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    """One JSON value on one line of stdout, as every `--json` and JSON Lines output is written."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def print_text(text: str) -> None:
    """Text on stdout exactly as it is, without any markup."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def say(message: str) -> None:
    """A message for a person, on stderr; what would steer the terminal is shown and does nothing."""
    stderr.print(_STEERING.sub(lambda found: ascii(found[0])[1:-1], message), markup=False)


def fail(error: TallyError) -> NoReturn:
    """Print the error (all problems of it, one a line) on stderr and leave with its exit code."""
    for problem in error.problems if isinstance(error, Problems) else [error]:
        say(f"error: {problem} [{problem.code}]")
    say(f"next: {error.next_step}")
    raise SystemExit(EXIT_UNAVAILABLE if isinstance(error, Unavailable) else EXIT_BAD_INPUT)


@contextmanager
def errors_to_exit_codes() -> Iterator[None]:
    """Turn every TallyError inside into a message on stderr and an exit code.

    A reader of stdout that has seen enough, as `head` has, is no failure: exit code 0.
    """
    try:
        yield
        sys.stdout.flush()
    except TallyError as error:
        fail(error)
    except UnicodeEncodeError as error:
        # The shell's bytes that are no UTF-8 arrive as lone surrogates, which nothing else here makes.
        if not all("\udc80" <= one <= "\udcff" for one in error.object[error.start : error.end]):
            raise
        what = f"an argument holds bytes that are not UTF-8: {error.object[:80]!r}"
        fail(BadInput("invalid_utf8", what, next_step="write it in UTF-8"))
    except BrokenPipeError:
        # What is still buffered goes nowhere, or the interpreter would complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def new_progress(*, transient: bool) -> Progress:
    """A display of progress on stderr, silent where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=stderr, transient=transient, disable=not stderr.is_terminal)


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Any]:
    """A progress bar on stderr for work that may take over a second; yields `advance(n)`."""
    with new_progress(transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count=1: progress.advance(task, count)
