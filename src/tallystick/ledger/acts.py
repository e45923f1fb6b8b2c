"""Administrative acts: who did what to whom, by which way, with what before and after it, and why.

Some acts are rows of tables (a key is made, a contract applied); others are entries of an org's ledger (credits are
granted, an invoice is voided). Both are acts of the one trail. Of an entry, what it says is taken from its request, so
that the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

import msgspec

ActorKind = Literal["key", "anyone", "os_user", "job"]


class Actor(msgspec.Struct, frozen=True):
    """Who acts, as far as we know it ourselves.

    Attributes:
        kind: `key`, who showed a key; `anyone`, who was asked for none; `os_user`, who runs a command; `job`, nobody.
        name: the key's id, the user's login name, or the job's name; "" for `anyone`.
        via: by which way: the API's operation (`api grant_credits`), or the command (`tally keys create`).
        request_id: of an HTTP request, as the log and the answer have it.
    """

    kind: ActorKind
    name: str
    via: str
    request_id: str | None = None


class Act(NamedTuple):
    """Something that somebody did.

    Attributes:
        act: what it was, such as `key.create`.
        subject: what it was done to: a key's id, `CONTRACT@VERSION`, …; never a person, never a secret.
        at: when, on the machine's clock.
        org_id: whose; None where it is about all.
        author: who says that they did it, where the act names somebody: a claim, beside what `Actor` knows.
        reason: why, where somebody has to say it.
        before, after: how it stood and stands, as JSON members; None where there is nothing to tell.
        seq: of an act that is an entry of the org's ledger: its place.
    """

    act: str
    subject: str
    at: datetime
    org_id: str | None = None
    author: str | None = None
    reason: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    seq: int | None = None


BY_SOMEBODY: Final = frozenset(
    {
        "grant", "refund", "override", "budget", "standing", "adjustment", "invoice", "payment", "credit_note", "void",
        "promo", "invoice_credit", "dispute",
    }
)  # fmt: skip
"""The kinds of entries that are acts, where somebody, and no job, has them written."""
_BY_THEMSELVES: Final = frozenset({"included", "refund"})
"""Sources of grants that follow from a plan, or from another entry."""


def is_act(kind: str, request: object) -> bool:
    """Whether an entry of that kind is an act of somebody's, and no decision, no usage and nothing that follows."""
    return kind in BY_SOMEBODY and getattr(request, "source", None) not in _BY_THEMSELVES


def act_of(kind: str, request: Any, *, org_id: str, seq: int, entry_id: str, at: datetime) -> Act:
    """The act that an entry is.

    Args:
        kind: of the entry.
        request: what its body says was asked for; it holds no personal data.
        org_id: whose entry it is.
        seq: its place.
        entry_id: as histories call it, such as `g12`.
        at: when it was recorded, on the machine's clock.
    """
    said = getattr(request, "override", request)  # an exception's words stand in the exception
    opened = getattr(request, "dispute_seq", None)
    subject = getattr(request, "invoice_id", None) or (request.name if kind == "budget" else entry_id)
    subject = subject if opened is None else f"q{opened}"
    reason = getattr(said, "suspended", None) if kind == "standing" else getattr(said, "reason", None)
    after = {"entry": entry_id} | {
        name: value
        for name, value in msgspec.to_builtins(request, enc_hook=str, str_keys=True).items()
        if value is not None and name not in ("author", "reason")
    }
    return Act(
        act=kind,
        subject=subject,
        at=at,
        org_id=org_id,
        author=getattr(said, "author", None),
        reason=reason,
        after=after,
        seq=seq,
    )
