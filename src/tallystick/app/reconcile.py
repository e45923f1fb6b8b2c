"""Comparing the ledger with a provider's own export, and saying what would set right what differs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction

from tallystick.app.entries import stream_entries
from tallystick.app.history import first_seq_since, history_orgs
from tallystick.app.orgs import find_org
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, NotFound
from tallystick.journal.period_scope import Scope, begin_reading, read_head
from tallystick.journal.reconcile import read_ledger_days
from tallystick.ledger.adjustment import ADJUSTMENT
from tallystick.ledger.entry import Entry
from tallystick.ledger.operation_body import read_body
from tallystick.rates.card import RateCard
from tallystick.reconcile.compare import Asked, Comparison, Key, Naming, compare
from tallystick.reconcile.explain import Finding, explain
from tallystick.reconcile.ledger_days import LedgerDays
from tallystick.reconcile.model import DAY, Export, day_start
from tallystick.reconcile.offers import Booking, Offer, Offered, Offering
from tallystick.reconcile.reading import read_export

_CHARS_MAX = 200
DAYS_MAX = 400
"""As many days can be compared at once: more are no month's question, and would hold up others."""

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asks: see `reconcile.compare.Asked`, whose members these become.

    Attributes:
        models_of: by item of a cost export, the model that it is of.
        booking: where what is of no one request would be booked.
    """

    provider: str
    asked: Asked
    models_of: dict[str, str] = field(default_factory=dict)
    booking: Booking = field(default_factory=Booking)


def question(
    provider: str,
    *,
    payers: Sequence[str] = ("seller",),
    orgs: Sequence[str] = (),
    org_of: Mapping[str, str] | None = None,
    models_of: Mapping[str, str] | None = None,
    since: date | None = None,
    until: date | None = None,
    tolerance: Fraction = Fraction(0),
    tolerance_pico: int = 0,
    is_complete: bool = False,
    book_to: str | None = None,
    environment: str = "production",
) -> Question:
    """A question; see `reconcile.compare.Asked` and `reconcile.offers.Booking` for what each part means.

    Raises:
        BadInput: `invalid_tolerance`, `conflicting_options`, `invalid_text`.
    """
    if not 0 <= tolerance <= 1 or tolerance_pico < 0:
        raise BadInput(
            "invalid_tolerance",
            "a tolerance is from 0 to 100 percent, or an amount that is not below nothing",
            next_step="give such a one",
            where="--tolerance",
        )
    if org_of and orgs:
        raise BadInput(
            "conflicting_options",
            "orgs are told apart by project, or only some orgs are compared, not both",
            next_step="leave out --org: with --map only the orgs that are mapped are compared",
            where="--map",
        )
    for where, text in (("--provider", provider), ("--environment", environment)):
        if not text.strip() or len(text) > _CHARS_MAX or not text.isprintable():
            raise BadInput(
                "invalid_text", f"{text!r:.60} is no name", next_step="give 1 to 200 characters", where=where
            )
    asked = Asked(
        payers=frozenset(payers),
        orgs=frozenset(orgs),
        org_of=dict(org_of or {}),
        since=since,
        until=until,
        tolerance=tolerance,
        tolerance_pico=tolerance_pico,
        is_complete=is_complete,
    )
    return Question(provider, asked, dict(models_of or {}), Booking(book_to, environment))


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What came of a comparison.

    Attributes:
        provider: the card's id of the provider.
        sha256: the hash over the export's files, which adjustments name.
        export: what was read.
        ledger: what it was compared with.
        comparison: by day and model.
        findings: what explains each.
        offered: what would set each right.
    """

    provider: str
    sha256: str
    export: Export
    ledger: LedgerDays
    comparison: Comparison
    findings: dict[Key, list[Finding]]
    offered: dict[Key, Offered]

    @property
    def offers(self) -> list[Offer]:
        """All entries that would set something right, by day and model."""
        return [offer for one in self.offered.values() for offer in one.offers]


def reconcile(
    runtime: Runtime, question: Question, files: Sequence[tuple[str, bytes]], *, progress: Progress = lambda _: None
) -> Reconciliation:
    """Read an export, compare it with the ledger, explain what differs, and offer what would set it right.

    Nothing is written.

    Args:
        question: what is asked.
        files: the export's files, by name.
        progress: called with the number of orgs read since the last call.

    Raises:
        BadInput: what `reconcile.reading.read_export` raises; `invalid_period`, `unknown_provider`.
        NotFound: `unknown_org`.
        Conflict: `entries_missing`.
        Unavailable: `database_unreachable`.
    """
    card = runtime.card
    naming = Naming(card.names, question.provider)
    asked = question.asked
    for org_id in sorted({*asked.orgs, *asked.org_of.values(), *filter(None, [question.booking.org_id])}):
        find_org(runtime, org_id)
    export = read_export(naming.provider, files, question.models_of)
    days = [day for day in export.days() if asked.is_inside(day)]
    if not days:
        raise BadInput(
            "invalid_period",
            "the export is of none of the days that are asked about",
            next_step="widen --from and --to, or export those days",
            where="--from",
        )
    if days[-1] - days[0] >= DAYS_MAX * DAY:
        raise BadInput(
            "invalid_period",
            f"{days[0]} and {days[-1]} are {DAYS_MAX} days apart or more",
            next_step="compare a shorter time, with --from and --to",
            where="--from",
        )
    ledger = _ledger_days(runtime, asked, question.booking, days[0], days[-1] + DAY, progress)
    comparison = compare(export, ledger, naming, asked)
    findings = explain(comparison, export.classes, asked)
    sha256 = _sha256(files)
    offering = Offering(
        ledger, asked, naming.provider, export.classes, sha256, _card_at(runtime), card, question.booking
    )
    offered = {key: offering.of(cell, comparison.cells) for key, cell in comparison.cells.items()}
    return Reconciliation(naming.provider, sha256, export, ledger, comparison, findings, offered)


def _sha256(files: Sequence[tuple[str, bytes]]) -> str:
    """Of one file its hash; of several the hash over theirs, in order of the hashes, whatever they are called."""
    digests = sorted(hashlib.sha256(data).hexdigest() for _, data in files)
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _card_at(runtime: Runtime) -> Callable[[str], RateCard]:
    def card_at(version: str) -> RateCard:
        try:
            return runtime.cards.at(version)
        except NotFound:
            runtime.reload_cards()  # another process has loaded it since
            return runtime.cards.at(version)

    return card_at


def _ledger_days(
    runtime: Runtime, asked: Asked, booking: Booking, since: date, until: date, progress: Progress
) -> LedgerDays:
    days = LedgerDays()
    start, end = day_start(since), day_start(until)
    wanted = frozenset(asked.org_of.values()) or asked.orgs
    orgs = sorted(wanted | frozenset(filter(None, [booking.org_id]))) if wanted else history_orgs(runtime, None)
    for org_id in orgs:
        with runtime.database.org(org_id) as connection:
            begin_reading(connection)
            head = read_head(connection, org_id)
            days.heads[org_id] = head.last_seq
            if not head.has_left(start):
                read_ledger_days(connection, Scope(org_id, start, end, head.last_seq), days)
                progress(1)
                continue
            first_seq = first_seq_since(connection, org_id, head, start)
        _read_entries(runtime, days, Scope(org_id, start, end, head.last_seq), first_seq)
        progress(1)
    return days


def _read_entries(runtime: Runtime, days: LedgerDays, scope: Scope, first_seq: int) -> None:
    """The same sums, one entry at a time, where some of them have left the database for blocks."""

    def inside(kinds: tuple[str, ...]) -> list[Entry]:
        entries = stream_entries(runtime, scope.org_id, first_seq, scope.through_seq)
        return [entry for entry in entries if entry.kind in kinds and scope.start <= entry.time < scope.end]

    after = inside(("correction", ADJUSTMENT))  # few, as estimates and models without a price are
    corrections = {entry.refers_to_seq: entry for entry in after if entry.kind == "correction"}
    for entry in stream_entries(runtime, scope.org_id, first_seq, scope.through_seq):
        if entry.kind == "usage" and scope.start <= entry.time < scope.end:
            days.add_request(entry, corrections.get(entry.seq))
    for entry in after:
        if entry.kind == ADJUSTMENT:
            days.add_adjustment(entry, read_body(ADJUSTMENT, entry.body or "")[0])


def is_over(runtime: Runtime, day: date) -> bool:
    """Whether the day has been over for an hour: before, calls of it may still be on their way to either side."""
    return runtime.clock() >= day_start(day) + DAY + timedelta(hours=1)
