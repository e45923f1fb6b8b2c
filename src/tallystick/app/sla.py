"""What an org's month is credited for breaches of the promised service, and why: looked at, and nothing given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from tallystick.app.close_month import preview_invoice
from tallystick.app.entries import Ledger, entries_at
from tallystick.app.operate import existing_org
from tallystick.app.runtime import Runtime
from tallystick.app.sla_counts import Counts, slow_counts
from tallystick.app.sla_known import Known, read_known
from tallystick.billing.incidents import Incident, incident_id
from tallystick.billing.sla import PlanCredit, SlaResult, plan_members, plan_sentences, sla_credit
from tallystick.billing.sla_month import promises_of
from tallystick.contract.sla_words import sla_terms
from tallystick.core.instants import parse_instant
from tallystick.core.money import cents_to_usd
from tallystick.core.periods import month_period
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.journal.invoices import invoice_by_month
from tallystick.journal.period_scope import begin_reading
from tallystick.journal.sla import sla_lots, thresholds_of
from tallystick.ledger.credit_operations import GiveCredit
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operation_ids import operation_id

REQUEST_PREFIX = "sla:"
"""What the request ids of these credits begin with, before the month."""

_PLACE = re.compile(r"[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True)
class MonthCredit:
    """What a month comes to with the incidents up to a number.

    Attributes:
        through: the number of the last incident that is known.
        incidents: those that concern the org, touch the month and hold.
    """

    invoice: Invoice
    through: int
    incidents: tuple[Incident, ...]
    result: SlaResult


@dataclass(frozen=True, slots=True)
class Given:
    """One credit that was given for a month: its entry, how much, and what it was computed from."""

    seq: int
    request_id: str
    amount_cents: int
    about: dict[str, Any] | None

    @property
    def place(self) -> int:
        """The number in its request id: 1 of the first one for a month, which has none."""
        return int(self.request_id.removeprefix(REQUEST_PREFIX).partition(":")[2] or 1)


def month_credit(ledger: Ledger, invoice: Invoice, known: Known, *, through: int | None = None) -> MonthCredit:
    """What the invoice's month is credited in all.

    Args:
        ledger: a running system, or one that is opened for a check alone.
        invoice: a stored one, or a preview.
        known: what is known of its month.
        through: as it was when this was the number of the last incident; None for as it is known.

    Raises:
        NotFound: `unknown_contract_version`.
        Conflict: `entries_missing`.
        BadInput: `missing_block`, `broken_block`.
        Unavailable: `database_unreachable`.
    """
    last = known.through if through is None else through
    incidents = known.incidents(invoice, last)
    promises = promises_of(invoice, known.contract)
    counts: Counts = {}
    if any(thresholds_of(one) for one in promises):
        with ledger.database.org(invoice.org_id) as connection:
            begin_reading(connection)
            counts = slow_counts(ledger, connection, invoice, promises, incidents)
    return MonthCredit(invoice, last, tuple(incidents), sla_credit(promises, incidents, counts))


def known_of(ledger: Ledger, invoices: Iterable[Invoice]) -> Known:
    """What is known now of the months of these invoices.

    Raises:
        Unavailable: `database_unreachable`.
    """
    return read_known(
        ledger, [(parse_instant(one.period.start), parse_instant(one.period.end)) for one in invoices]
    )  # fmt: skip


def given_for(ledger: Ledger, org_id: str, month: str) -> list[Given]:
    """The credits that were given for breaches in a month, in their order.

    Raises:
        Conflict, BadInput, Unavailable: as `month_credit`.
    """
    with ledger.database.org(org_id) as connection:
        seqs = sla_lots(connection, org_id)
    found = []
    for seq, entry in sorted(entries_at(ledger, org_id, seqs).items()):
        request, _ = read_body(entry.kind, entry.body or "")
        if isinstance(request, GiveCredit) and month_of_request(entry.request_id) == month:
            about = None if request.about is None else msgspec.json.decode(request.about)
            found.append(Given(seq, entry.request_id, request.amount_cents, about))
    return found


def month_of_request(request_id: str) -> str | None:
    """The month that a request id of such a credit names; None of any other."""
    if not request_id.startswith(REQUEST_PREFIX):
        return None
    month, _, place = request_id.removeprefix(REQUEST_PREFIX).partition(":")
    return month if not place or _PLACE.fullmatch(place) else None


def show_sla(runtime: Runtime, org_id: str, month: str) -> dict[str, Any]:
    """What the month comes to now, plan by plan and line by line, and what was given for it. Nothing is given.

    A month that is not closed yet is looked at as far as it goes.

    Args:
        month: such as "2026-10".

    Raises:
        BadInput: `invalid_month`, and what keeps a month from being billed.
        NotFound: `unknown_org`, `no_subscription`.
        Conflict, Unavailable: as `month_credit`.
    """
    month_period(month)
    existing_org(runtime, org_id)
    with runtime.database.org(org_id) as connection:
        stored = invoice_by_month(connection, org_id, month)
    invoice = preview_invoice(runtime, org_id, month) if stored is None else parse_invoice(stored.document)
    found = month_credit(runtime, invoice, known_of(runtime, [invoice]))
    given = given_for(runtime, org_id, month)
    given_cents = sum(one.amount_cents for one in given)
    return {
        "org_id": org_id,
        "month": month,
        "invoice_id": None if stored is None else invoice.invoice_id,
        "credit_usd": cents_to_usd(found.result.credit_cents),
        "given_usd": cents_to_usd(given_cents),
        "to_give_usd": cents_to_usd(max(found.result.credit_cents - given_cents, 0)),
        "plans": [_plan_members(one) for one in found.result.plans],
        "incidents": [one.members(of_org=True) for one in found.incidents],
        "given": [
            {
                "credit_id": operation_id("invoice_credit", one.seq),
                "request_id": one.request_id,
                "amount_usd": cents_to_usd(one.amount_cents),
            }
            for one in given
        ],
    }


def credit_evidence(found: MonthCredit, given_cents: int) -> dict[str, Any]:
    """What a credit was computed from: enough to compute it again from what is stored.

    Args:
        given_cents: what was given for the month before.
    """
    invoice = found.invoice
    return {
        "month": invoice.period.label,
        "invoice_id": invoice.invoice_id,
        "invoice_digest": invoice.digest,
        "incidents_through": found.through,
        "incidents": [incident_id(one.number) for one in found.incidents[:_NAMED_MAX]],
        "incident_count": len(found.incidents),
        "credit_usd": cents_to_usd(found.result.credit_cents),
        "given_before_usd": cents_to_usd(given_cents),
        "plans": [plan_members(one) for one in found.result.plans],
    }


_NAMED_MAX = 100


def _plan_members(credit: PlanCredit) -> dict[str, Any]:
    rule = [{"term": term, "says": says} for term, says in sla_terms(credit.promise.sla)]
    return plan_members(credit) | {"rule": rule, "why": plan_sentences(credit)}
