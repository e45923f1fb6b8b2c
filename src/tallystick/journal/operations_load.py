"""What a group of operations is decided from, read under the locks of the orgs' heads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from tallystick.journal.round_trips import numbers, texts
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operations import Authorize, Held, Settled
from tallystick.ledger.org_account import Charged, FinishedWork, OpenHold, OrgTerms, Resolution
from tallystick.ledger.wallet import GrantedLot

ENDED_HOLDS_MAX = 200
"""How many holds of an org whose life is over one group ends; where there are more, they end in groups of their own."""

_read_terms = msgspec.json.Decoder(OrgTerms).decode

Place = tuple[str, int]
"""Of an entry: its org, and its sequence number."""


class OrgRow(msgspec.Struct, gc=False):
    """What there is of an org besides its lots and holds. Terms are those in force; None where there are none.

    `terms_until`: when, as far as is known, others come into force; None for never.
    """

    org_id: str
    counted_through_seq: int | None
    state: str | None
    progress: str | None
    contract: str | None
    plan: str | None
    time_zone: str | None
    version: str | None
    sha256: str | None
    held_pico: int
    terms_until: datetime | None

    def terms(self) -> OrgTerms:
        """What has been said about the org."""
        return OrgTerms() if self.state is None or self.state == "{}" else _read_terms(self.state)


class HoldRow(NamedTuple):
    """The entry of a hold; `is_open`: nothing has resolved it. `told`: what the body says, where that was not read."""

    org_id: str
    seq: int
    user_id: str | None
    session_id: str | None
    leaf: bytes
    body: str
    is_open: bool
    told: tuple[Authorize, Held] | None = None


class StoredOperation(NamedTuple):
    """The entry of an operation, as far as its answer and the comparison with another need it."""

    seq: int
    kind: Any
    request_id: str
    recorded_at: datetime
    user_id: str | None
    session_id: str | None
    attributes: Mapping[str, str] | None
    salt: bytes | None
    fingerprint: bytes
    leaf: bytes
    rate_version: str
    refers_to_seq: int | None
    body: str


class HoldCache:
    """Bodies of holds that were read or written lately: entries never change, so that what was read stays true."""

    def __init__(self, holds_max: int = 8192) -> None:
        self._holds_max = holds_max
        self._held: dict[tuple[str, int, bytes], tuple[Authorize, Held]] = {}

    def add(self, org_id: str, seq: int, leaf: bytes, request: Authorize, held: Held) -> None:
        """Remember one; the oldest is forgotten for it."""
        while len(self._held) >= self._holds_max:
            del self._held[next(iter(self._held))]
        self._held[org_id, seq, leaf] = (request, held)

    def drop(self, row: HoldRow) -> None:
        """Forget one that is resolved: it is hardly asked for again."""
        self._held.pop((row.org_id, row.seq, row.leaf), None)

    def read(self, row: HoldRow) -> OpenHold:
        """The hold of that row."""
        found = row.told or self._held.get((row.org_id, row.seq, row.leaf))
        if found is None:
            found = read_body("hold", row.body)
            self.add(row.org_id, row.seq, row.leaf, *found)
        return OpenHold(row.seq, found[0], row.user_id, found[1])


def places(found: Iterable[Place]) -> tuple[bytes, bytes]:
    """Entries by their places, as the parameters of a query."""
    orgs, seqs = zip(*found, strict=True)
    return texts(orgs), numbers(seqs)


def columns(rows: Iterable[Sequence[str]]) -> list[bytes]:
    """Rows of texts as the parameters of a query, column by column."""
    return [texts(column) for column in zip(*rows, strict=True)]


def lots_of(rows: Iterable[Sequence[Any]]) -> list[tuple[str, GrantedLot]]:
    """Lots with their orgs."""
    return [(org_id, GrantedLot(*rest)) for org_id, *rest in rows]


def resolution_of(stored: StoredOperation) -> Resolution:
    """What resolved a hold, from its entry."""
    return Resolution(stored.seq, stored.kind, *read_body(stored.kind, stored.body))


def charged_of(
    settlements: Iterable[Sequence[Any]],
    settled_elsewhere: Mapping[Place, Settled],
    refunds: Iterable[Sequence[Any]],
    refunds_left: Iterable[Sequence[Any]],
) -> list[tuple[str, Charged]]:
    """Settlements that can be refunded, with their orgs: those that were found, and those that are known otherwise."""
    settled = {
        **settled_elsewhere,
        **{(org_id, seq): read_body("settlement", body)[1] for org_id, seq, body in settlements},
    }
    refunded: dict[Place, int] = {(org_id, seq): amount_pico for org_id, seq, amount_pico in refunds_left}
    for org_id, seq, body in refunds:
        returned = read_body("refund", body)[1]
        amount_pico = sum([lot.amount_pico for lot in returned.returned]) + returned.receivable_pico
        refunded[org_id, seq] = refunded.get((org_id, seq), 0) + amount_pico
    return [(org_id, Charged(seq, one, refunded.get((org_id, seq), 0))) for (org_id, seq), one in settled.items()]


def finished_of(rows: Iterable[Sequence[Any]]) -> list[tuple[str, tuple[str, str], FinishedWork]]:
    """Finished work with its org, by action and key."""
    return [(org_id, (action, key), FinishedWork(charged_at, seq)) for org_id, action, key, charged_at, seq in rows]
