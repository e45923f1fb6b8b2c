"""The errors that a person or a program meets, and what each one promises.

TallyError                  what happened, why, and the safe next step, with a stable code
├── BadInput                the caller sent something that cannot be taken; nothing was stored
│   └── Problems            several bad inputs found in one pass, reported together
├── NotFound                the thing named does not exist
├── Conflict                it exists already, with other content
├── Unauthorized            who calls has shown no key, or one that is not, or no longer, taken
├── Forbidden               the key that was shown is not for this
└── Unavailable             a part the work needs cannot be reached; trying again is safe

Every edge renders the same four parts: `code` for programs, `detail` and `next_step` for people, and
`where` (a field, a line, a key) for whoever mends it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.core.key_shapes import without_secrets


class TallyError(Exception):
    """Something was refused or failed; nothing was half-done.

    Attributes:
        code: stable, snake_case, documented in `docs/errors.md`; programs branch on it.
        detail: one or two sentences for a person: what happened and why.
        next_step: the safe thing to do now.
        where: the field, line or key that is at fault, or None.

    A key that was sent in the wrong place is shown in none of them.
    """

    def __init__(self, code: str, detail: str, *, next_step: str, where: str | None = None) -> None:
        detail, where = without_secrets(detail), None if where is None else without_secrets(where)
        super().__init__(f"{where}: {detail}" if where else detail)
        self.code = code
        self.detail = detail
        self.next_step = next_step
        self.where = where

    def as_dict(self) -> dict[str, str]:
        """The error as plain JSON members, `where` only when it is known."""
        parts = {"code": self.code, "detail": self.detail, "next_step": self.next_step}
        return parts if self.where is None else {**parts, "where": self.where}


class BadInput(TallyError):
    """What was sent cannot be taken as it is; mend it and send it again."""


class Problems(BadInput):
    """Several bad inputs, found in one pass so that a person mends them in one pass."""

    def __init__(self, code: str, problems: Sequence[BadInput], *, next_step: str) -> None:
        detail = "; ".join(str(problem) for problem in problems)
        super().__init__(code, detail, next_step=next_step)
        self.problems = tuple(problems)


class NotFound(TallyError):
    """The thing named does not exist here."""


class Conflict(TallyError):
    """It exists already with other content; what was there stays as it was."""


class Unauthorized(TallyError):
    """Who calls has not shown a key that is taken."""

    status = 401


class Forbidden(TallyError):
    """The key that was shown is sound, and not for what was asked."""

    status = 403


class Unavailable(TallyError):
    """A part that the work needs cannot be reached, or has its hands full; a retry is safe.

    Attributes:
        retry_after_seconds: when trying again is likely to do better, as far as is known.
    """

    def __init__(
        self, code: str, detail: str, *, next_step: str, where: str | None = None, retry_after_seconds: int = 1
    ) -> None:
        super().__init__(code, detail, next_step=next_step, where=where)
        self.retry_after_seconds = retry_after_seconds


def cannot_write(output: object, error: OSError) -> BadInput:
    """The refusal of an output file that the system does not let us write."""
    return BadInput(
        "cannot_write",
        f"{output} cannot be written: {(error.strerror or str(error)).lower()}",
        next_step="name a file in a folder that exists and that you may write to",
        where="--output",
    )
