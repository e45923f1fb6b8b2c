"""Writing what a comparison with a provider's export has offered, once, however often it is asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tallystick.app.audit import record_entries
from tallystick.app.reconcile import Reconciliation, is_over
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, Conflict
from tallystick.journal.adjustments import NewAdjustment, add_adjustments, stored_adjustments
from tallystick.journal.corrections import lock_org
from tallystick.journal.reconcile import last_adjustment
from tallystick.ledger.adjustment import Adjust
from tallystick.ledger.encoding import SALT_BYTES
from tallystick.ledger.members import Members
from tallystick.ledger.operation_ids import operation_id
from tallystick.reconcile.offers import Offer


@dataclass(frozen=True, slots=True)
class Written:
    """An offer that is an entry now.

    Attributes:
        entry_id: as histories call it, such as a17.
        is_new: whether it was written now, and not before, or by somebody else at the same time.
    """

    offer: Offer
    entry_id: str
    is_new: bool


def apply_offers(runtime: Runtime, found: Reconciliation, *, author: str, reason: str) -> list[Written]:
    """Write every offer: each org's all at once, or none of them.

    What is written follows from the ledger as it was compared. Where somebody has adjusted an org since, and otherwise,
    nothing of that org is written.

    Raises:
        BadInput: `day_not_over`; those of `members.Members`, of the author and the reason.
        Problems: `invalid_request`.
        Conflict: `ledger_moved`; what was written of other orgs stays, and comparing again goes on from there.
        Unavailable: `database_unreachable`.
    """
    members = Members({"author": author, "reason": reason}, ("author", "reason"), "an adjustment")
    author, reason = members.text("author"), members.text("reason")
    members.raise_faults()
    early = sorted({offer.key.day for offer in found.offers if not is_over(runtime, offer.key.day)})
    if early:
        raise BadInput(
            "day_not_over",
            f"{early[0]} is not over for an hour yet, in UTC: calls of it may still be on their way",
            next_step="compare it again later, or leave it out with --to",
            where="--apply",
        )
    by_org: dict[str, list[Offer]] = defaultdict(list)
    for offer in found.offers:
        by_org[offer.org_id].append(offer)
    written = []
    for org_id, offers in sorted(by_org.items()):
        written += _apply_org(runtime, org_id, offers, found.ledger.heads.get(org_id, 0), author, reason)
    return written


def _apply_org(
    runtime: Runtime, org_id: str, offers: Sequence[Offer], compared_seq: int, author: str, reason: str
) -> list[Written]:
    with runtime.database.writer() as connection:
        head = lock_org(connection, org_id)
        stored = stored_adjustments(connection, org_id, [offer.request_id for offer in offers])
        new = []
        for offer in offers:
            known = stored.get(offer.request_id)
            if known is None:
                adjust = msgspec.structs.replace(offer.adjust, author=author, reason=reason)
                new.append(NewAdjustment(offer.request_id, offer.time, adjust, runtime.random_bytes(SALT_BYTES)))
            elif known.request is not None and not _same(known.request, offer.adjust):
                raise _moved(org_id, known.seq)
        last = last_adjustment(connection, org_id)
        if new and last > compared_seq:
            raise _moved(org_id, last)
        places = add_adjustments(connection, head, org_id, new, runtime.clock(), runtime.card.version)
        written = [("adjustment", one.request, seq) for one, seq in zip(new, places, strict=True)]
        record_entries(connection, org_id, written, runtime.clock())
    places_of = dict(zip((one.request_id for one in new), places, strict=True))
    return [
        Written(
            offer,
            operation_id("adjustment", places_of.get(offer.request_id) or stored[offer.request_id].seq),
            offer.request_id in places_of,
        )
        for offer in offers
    ]


def _same(stored: Adjust, offered: Adjust) -> bool:
    """Whether it adjusts the same by the same; who said so, why, and from which file does not matter."""
    return (stored.of_seq, stored.model, stored.lines) == (offered.of_seq, offered.model, offered.lines)


def _moved(org_id: str, seq: int) -> Conflict:
    return Conflict(
        "ledger_moved",
        f"{org_id} was adjusted by entry {seq} after it was compared; nothing was written for it",
        next_step="run the same command again: it compares with the ledger as it is now",
        where=org_id,
    )
