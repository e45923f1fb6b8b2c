"""What the evidence of a dispute says, in plain sentences with the arithmetic written out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tallystick.core.instants import format_instant
from tallystick.core.money import pico_to_usd
from tallystick.dispute.charges import MonthCharge
from tallystick.invoice.facts import Rechecked, StoredFact, stored_lines
from tallystick.invoice.wording import counted, grouped, usd
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import Settled
from tallystick.rates.model import CostLine


def request_sentences(fact: StoredFact, again: Rechecked, month: str, charge: MonthCharge | None) -> Iterator[str]:
    """What a request used, what that cost and how, and what it was charged."""
    entry, priced = fact.entry, fact.priced
    quantities = ", ".join(f"{grouped(quantity)} {meter}" for meter, quantity in fact.meters.items()) or "nothing"
    served = f"{entry.provider}/{entry.model}" if entry.provider else f"{entry.model}"
    done = "" if entry.outcome in (None, "success") else f"; its outcome was {entry.outcome}"
    yield (
        f"Request {entry.request_id}, entry {entry.seq} of the ledger, of {format_instant(entry.time)}: "
        f"{entry.feature} used {quantities} of {served} in {entry.environment}{done}."
    )
    for line in stored_lines(priced):
        yield cost_sentence(line)
    if fact.correction is not None:
        yield f"It had no price when it came; entry {fact.correction.seq} gave it one."
    if priced.cost_pico is None:
        yield f"What it cost is not known: {priced.reason or 'the rate card has no price for it'}."
    else:
        paid = ", which the customer's own key paid" if entry.payer == "customer" else ""
        yield f"It cost {usd(pico_to_usd(priced.cost_pico))} USD under rate card {priced.rate_version}{paid}."
    if again.differences:
        yield f"Computed again from the raw fact, {counted(len(again.differences), 'thing')} came out otherwise."
        yield from (one.sentence() for one in again.differences)
    else:
        yield "Computed again from the raw fact and that rate card, all of this comes out the same."
    if charge is None:
        yield f"In {month} no plan was in force at that time, so it was charged nothing in money."
    else:
        yield (
            f"{month} comes to {usd(charge.total_usd)} USD with it and to {usd(charge.without_usd)} USD without it: "
            f"it was charged {usd(charge.exact_usd)} USD before rounding to the cent."
        )


def cost_sentence(line: CostLine) -> str:
    """One line of a cost: what was multiplied with what."""
    of = f" of {line.model}" if line.model else ""
    if line.price_pico is None or line.per is None or line.amount_pico is None:
        return f"{grouped(line.quantity)} {line.meter}{of}: there was no price."
    price, amount = usd(pico_to_usd(line.price_pico)), usd(pico_to_usd(line.amount_pico))
    if line.per == 1:
        return f"{grouped(line.quantity)} {line.meter}{of} at {price} USD each: {amount} USD."
    quantity, per = grouped(line.quantity), grouped(line.per)
    return f"{quantity} {line.meter}{of} at {price} USD per {per}: {quantity} × {price} / {per} = {amount} USD."


def settlement_sentences(
    seq: int, settled: Settled, charged_pico: int, refunded_pico: int, recomputed_pico: int | None
) -> Iterator[str]:
    """What a settlement charged in credits, why, and whether it charges the same when that is told again."""
    named = operation_id("settlement", seq)
    yield f"Settlement {named} charged {grouped(pico_to_usd(charged_pico))} credits. {settled.why}"
    if settled.rounding_pico:
        yield f"{grouped(pico_to_usd(settled.rounding_pico))} of them are rounding up to whole credits."
    if refunded_pico:
        yield f"{grouped(pico_to_usd(refunded_pico))} of them had been given back before the dispute."
    terms = f"version {settled.contract_version} of {settled.contract}"
    if recomputed_pico is None:
        yield f"What it charges follows from earlier work too, by {terms}; `tally verify` tells it again from all."
    elif recomputed_pico == charged_pico:
        yield f"Told again from its hold, its cost and {terms}, it charges the same."
    else:
        yield f"Told again from its hold, its cost and {terms}, it charges {grouped(pico_to_usd(recomputed_pico))}."


def summary_sentences(document: Mapping[str, Any]) -> Iterator[str]:
    """The evidence in short: what is disputed, and what the replay has found."""
    dispute = document["dispute"]
    yield f"Dispute {dispute['dispute_id']} of {dispute['org_id']}: {_disputed(document)}"
    replay = document["replay"]
    if replay is not None:
        found = document["invoice"]
        events = counted(replay["events"], "request")
        if replay["identical"]:
            yield (
                f"Invoice {found['invoice_id']} was computed again from {events} and the versions of then: it is "
                f"identical to the last bit, {usd(found['total_usd'])} USD, digest {found['digest']}."
            )
        else:
            again = replay["recomputed_total_usd"]
            comes = "nothing could be computed" if again is None else f"it comes to {usd(again)} USD now"
            yield (
                f"Invoice {found['invoice_id']} was computed again from {events} and the versions of then: "
                f"{counted(replay['difference_count'], 'difference')} came out; {comes}, and {usd(found['total_usd'])} "
                "USD were billed."
            )
    if document["requests"]:
        same, count = sum(one["agrees"] for one in document["requests"]), len(document["requests"])
        were = "was" if count == 1 else "were"
        yield f"{counted(count, 'request')} {were} computed again; {same:,} came out as recorded."
    if document["difference_count"]:
        found = counted(document["difference_count"], "difference")
        yield f"{found} in all; {usd(document['proposed_usd'])} USD are proposed to be taken back."
    else:
        yield "Nothing differs: what was recorded, priced and billed is what facts and versions come to."


def _disputed(document: Mapping[str, Any]) -> str:
    dispute, invoice = document["dispute"], document["invoice"]
    named = "" if invoice is None else f"invoice {invoice['number'] or invoice['invoice_id']}"
    what = {
        "invoice": named,
        "line": f"line {dispute['line']} of {named}",
        "requests": counted(len(document["requests"]), "request")
        + (f" on {named}" if named else ", on no invoice yet"),
    }[dispute["what"]]
    credits = "" if dispute["disputed_credits"] == "0" else f" and {grouped(dispute['disputed_credits'])} credits"
    return f"{what}; {usd(dispute['disputed_usd'])} USD{credits} are disputed, because: {dispute['reason']}"


def explanation_text(document: Mapping[str, Any]) -> str:
    """The whole evidence as plain text, for a person."""
    return "\n".join(_text_lines(document)) + "\n"


def _text_lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield f"EVIDENCE OF DISPUTE {document['dispute']['dispute_id']}"
    yield ""
    yield from document["summary"]
    for line in document["lines"]:
        yield from _part(f"Line {line['number']}: {line['title']}, {usd(line['amount_usd'])} USD", line["explanation"])
    for month in document["months"]:
        if month["charged_usd"] is not None:
            said = (
                f"{month['month']} comes to {usd(month['total_usd'])} USD with the disputed requests and to "
                f"{usd(month['without_usd'])} USD without them: they were charged {usd(month['charged_usd'])} USD."
            )
            yield from _part(f"Month {month['month']}", [said])
    for one in document["settlements"]:
        yield from _part(f"Settlement {one['settlement_id']}", one["explanation"])
    for one in document["requests"]:
        yield from _part(f"Request {one['request_id']}", one["explanation"])
    if document["differences"]:
        yield from _part("Differences", [one["sentence"] for one in document["differences"]])
    yield from _part("Versions", _versions(document["versions"]))


def _part(title: str, sentences: Iterable[str]) -> Iterator[str]:
    yield ""
    yield title
    yield from (f"  {one}" for one in sentences)


def _versions(versions: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"rate card {one['version']}, SHA-256 {one['sha256']}" for one in versions["rate_cards"])
    yield from (
        f"contract {one['name']}, version {one['version']}, SHA-256 {one['sha256']}" for one in versions["contracts"]
    )
