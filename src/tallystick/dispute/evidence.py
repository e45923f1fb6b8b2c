"""The evidence of a dispute: a document of what is disputed, what a replay has found, and how it all came about.

It is made from what the ledger held when the dispute was opened, and from nothing else: made again, at any later time,
it is the same to the last byte. It holds no personal data, so that nothing of it changes when a person is erased.
Amounts are decimal strings. Pure: everything is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd, pico_to_usd
from tallystick.dispute.charges import MonthCharge
from tallystick.dispute.model import DisputeAccount
from tallystick.dispute.words import request_sentences, settlement_sentences, summary_sentences
from tallystick.invoice.compare import Difference
from tallystick.invoice.explain import explain_line
from tallystick.invoice.facts import Rechecked, StoredFact, stored_lines
from tallystick.invoice.model import Invoice, InvoiceLine
from tallystick.ledger.dispute_operations import DISPUTE
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import Settled
from tallystick.rates.model import CostLine

FORMAT: Final = "tallystick/dispute-evidence/v1"
DIFFERENCES_MAX: Final = 200
"""How many differences the document spells out; all are counted."""


class Replayed(NamedTuple):
    """What a replay of the invoice has found; see `app.replay_report`."""

    identical: bool
    digest: str
    recomputed_digest: str | None
    events: int
    difference_count: int
    differences: tuple[Difference, ...]
    recomputed: Invoice | None


class RequestFound(NamedTuple):
    """A disputed request: as it is stored, and as it is computed again.

    Attributes:
        month: such as `2026-10`.
        charge: what it was charged, taken alone; None where its month had no plan.
    """

    fact: StoredFact
    again: Rechecked
    month: str
    charge: MonthCharge | None


class SettlementFound(NamedTuple):
    """What a settlement charged in credits for disputed requests, and what it charges when that is told again.

    Attributes:
        recomputed_pico: None where that cannot be told from the settlement alone, as of a repeat.
    """

    seq: int
    hold_seq: int
    settled: Settled
    charged_pico: int
    refunded_pico: int
    recomputed_pico: int | None


class MonthFound(NamedTuple):
    """What the requests of one month were charged together; None where no plan was in force."""

    month: str
    charge: MonthCharge | None


class Version(NamedTuple):
    """A rate card or a contract, by name, version and hash."""

    name: str
    version: str
    sha256: str


class Found(NamedTuple):
    """All that was looked up for a dispute."""

    invoice: Invoice | None
    number: str | None
    replayed: Replayed | None
    requests: Sequence[RequestFound]
    months: Sequence[MonthFound]
    settlements: Sequence[SettlementFound]
    rate_cards: Sequence[Version]
    contracts: Sequence[Version]


class Evidence(NamedTuple):
    """The document, and what the ledger says of it."""

    document: dict[str, Any]
    differences: int
    proposed_cents: int


def make_evidence(org_id: str, account: DisputeAccount, through_seq: int, found: Found) -> Evidence:
    """The evidence of a dispute.

    Args:
        account: the dispute as it was opened.
        through_seq: the last entry that the ledger had then.
        found: what was looked up, as the ledger stood then.
    """
    replayed = found.replayed
    named = [one for request in found.requests for one in request.again.differences]
    named += [one for settlement in found.settlements for one in _charge_differences(settlement)]
    known = set(replayed.differences) if replayed is not None else set()
    own = [one for one in dict.fromkeys(named) if one not in known]
    count = len(own) + (0 if replayed is None else replayed.difference_count)
    proposed = min(_proposed_cents(account, found), account.disputed_cents)
    shown = [*(() if replayed is None else replayed.differences), *own][:DIFFERENCES_MAX]
    document: dict[str, Any] = {
        "format": FORMAT,
        "dispute": {
            "dispute_id": operation_id(DISPUTE, account.seq),
            "org_id": org_id,
            "request_id": account.request_id,
            "opened_at": format_instant(account.opened_at),
            "what": account.what,
            "invoice_id": account.invoice_id,
            "line": account.line,
            "disputed_usd": cents_to_usd(account.disputed_cents),
            "disputed_credits": pico_to_usd(account.credits_pico),
            "reason": account.reason,
        },
        "ledger": {"through_seq": through_seq},
        "invoice": None if found.invoice is None else _invoice(found.invoice, found.number),
        "lines": [] if found.invoice is None else _lines(found.invoice, account, found.requests),
        "months": [_month(one) for one in found.months],
        "requests": [_request(one) for one in found.requests],
        "settlements": [_settlement(one) for one in found.settlements],
        "replay": None if replayed is None else _replay(replayed),
        "difference_count": count,
        "differences": [{**one.as_dict(), "sentence": one.sentence()} for one in shown],
        "proposed_usd": cents_to_usd(proposed),
        "versions": {
            "rate_cards": [{"version": one.version, "sha256": one.sha256} for one in found.rate_cards],
            "contracts": [one._asdict() for one in found.contracts],
        },
    }
    document["summary"] = list(summary_sentences(document))
    return Evidence(document, count, proposed)


def _proposed_cents(account: DisputeAccount, found: Found) -> int:
    """By how much what was billed is above what facts and versions come to; nothing where they agree."""
    invoice, replayed = found.invoice, found.replayed
    if invoice is None or replayed is None or replayed.recomputed is None:
        return 0
    again = replayed.recomputed
    if account.line is None:
        return max(0, invoice.total_cents - again.total_cents)
    billed, now = _line_cents(invoice, account.line), _line_cents(again, account.line)
    return max(0, billed - now)


def _line_cents(invoice: Invoice, number: int) -> int:
    return next((int(one.amount_usd.replace(".", "")) for one in invoice.lines if one.number == number), 0)


def _charge_differences(found: SettlementFound) -> Iterable[Difference]:
    if found.recomputed_pico is not None and found.recomputed_pico != found.charged_pico:
        yield Difference(
            f"settlement {operation_id('settlement', found.seq)}",
            "charge in credits",
            pico_to_usd(found.charged_pico),
            pico_to_usd(found.recomputed_pico),
        )


def _invoice(invoice: Invoice, number: str | None) -> dict[str, Any]:
    return {
        "invoice_id": invoice.invoice_id,
        "number": number,
        "month": invoice.period.label,
        "total_usd": invoice.totals.total_usd,
        "digest": invoice.digest,
        "through_seq": invoice.ledger.through_seq,
        "tree_size": invoice.ledger.tree_size,
        "root": invoice.ledger.root,
        "entries_sha256": invoice.ledger.entries_sha256,
    }


def _lines(invoice: Invoice, account: DisputeAccount, requests: Sequence[RequestFound]) -> list[dict[str, Any]]:
    """The lines that are disputed, each with how it came about; of requests those that count their meters."""
    meters = {meter for one in requests for meter in one.fact.meters}

    def is_meant(line: InvoiceLine) -> bool:
        if account.what == "requests":
            return bool(meters & {use.meter for use in line.metered})
        return account.line in (None, line.number)

    return [
        {
            "number": line.number,
            "title": explained.title,
            "amount_usd": line.amount_usd,
            "exact_usd": line.exact_usd,
            "explanation": list(explained.sentences),
        }
        for line in invoice.lines
        if is_meant(line)
        for explained in [explain_line(invoice, line)]
    ]


def _month(found: MonthFound) -> dict[str, Any]:
    charge = found.charge
    return {
        "month": found.month,
        "total_usd": None if charge is None else charge.total_usd,
        "without_usd": None if charge is None else charge.without_usd,
        "charged_usd": None if charge is None else cents_to_usd(charge.cents),
        "exact_usd": None if charge is None else charge.exact_usd,
    }


def _request(found: RequestFound) -> dict[str, Any]:
    entry, priced = found.fact.entry, found.fact.priced
    cost = found.again.cost
    return {
        "request_id": entry.request_id,
        "seq": entry.seq,
        "correction_seq": None if found.fact.correction is None else found.fact.correction.seq,
        "leaf": entry.leaf.hex(),
        "month": found.month,
        "time": format_instant(entry.time),
        "recorded_at": format_instant(entry.recorded_at),
        "feature": entry.feature,
        "environment": entry.environment,
        "provider": entry.provider,
        "model": entry.model,
        "action": entry.action,
        "outcome": entry.outcome,
        "payer": entry.payer or "seller",
        "meters": found.fact.meters,
        "rate_version": priced.rate_version,
        "cost_status": priced.status,
        "cost_usd": _usd(priced.cost_pico),
        "cost_lines": [cost_line_members(line) for line in stored_lines(priced)],
        "recomputed_cost_usd": None if cost is None else _usd(cost.total_pico),
        "charged_usd": None if found.charge is None else found.charge.exact_usd,
        "agrees": not found.again.differences,
        "explanation": list(request_sentences(found.fact, found.again, found.month, found.charge)),
    }


def cost_line_members(line: CostLine) -> dict[str, Any]:
    """One line of a cost, as the document has it."""
    return {
        "meter": line.meter,
        "quantity": line.quantity,
        "model": line.model,
        "price_usd": _usd(line.price_pico),
        "per": line.per,
        "amount_usd": _usd(line.amount_pico),
    }


def _settlement(found: SettlementFound) -> dict[str, Any]:
    settled = found.settled
    return {
        "settlement_id": operation_id("settlement", found.seq),
        "hold_id": operation_id("hold", found.hold_seq),
        "charged_credits": pico_to_usd(found.charged_pico),
        "refunded_credits": pico_to_usd(found.refunded_pico),
        "recomputed_credits": _usd(found.recomputed_pico),
        "cost_usd": pico_to_usd(settled.cost_pico),
        "contract": settled.contract,
        "contract_version": settled.contract_version,
        "plan": settled.plan,
        "explanation": list(
            settlement_sentences(found.seq, settled, found.charged_pico, found.refunded_pico, found.recomputed_pico)
        ),
    }


def _replay(found: Replayed) -> dict[str, Any]:
    return {
        "identical": found.identical,
        "digest": found.digest,
        "recomputed_digest": found.recomputed_digest,
        "recomputed_total_usd": None if found.recomputed is None else found.recomputed.totals.total_usd,
        "events": found.events,
        "difference_count": found.difference_count,
    }


def _usd(pico: int | None) -> str | None:
    return None if pico is None else pico_to_usd(pico)
