"""Giving what months are credited for breaches of the promised service: once, before the invoice is issued.

    stored ── looked at: what it comes to with the incidents known ── given, if anything ── issued

A credit is an entry of its own (kind `invoice_credit`, source `sla`), known by the month, so that it is given once,
whoever looks and however often. Incidents that are recorded after that are looked at by a later run: what the month
comes to beyond what was given is given as another entry. Nothing that was given is ever taken back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from tallystick.app.invoice_credits import credit_by_itself
from tallystick.app.left_entries import submit_together
from tallystick.app.runtime import Runtime
from tallystick.app.sla import REQUEST_PREFIX, Given, MonthCredit, credit_evidence, given_for, known_of, month_credit
from tallystick.app.sla_known import Known, read_known
from tallystick.core.errors import Conflict, TallyError, Unavailable
from tallystick.invoice.canonical import canonical_json
from tallystick.invoice.model import parse_invoice
from tallystick.journal.invoices import InvoiceRow
from tallystick.journal.sla import Look, add_looks, documents_of, unlooked
from tallystick.ledger.credit_operations import ABOUT_BYTES_MAX, GiveCredit
from tallystick.ledger.operations import Operation

AUTHOR = "tallystick"
_TRIES = 5
_AT_ONCE = 100
_SIDE_BY_SIDE = 6
"""How many months are looked at side by side: while the database counts for one, another's arithmetic is done."""


def credit_breaches(runtime: Runtime, rows: Sequence[InvoiceRow]) -> dict[str, TallyError]:
    """Give what these stored months are credited, before they are issued; doing it again gives nothing.

    Returns:
        By invoice, what kept one from being looked at: it is not to be issued yet.

    Raises:
        Unavailable: `journal_busy`, `database_unreachable`, …; doing it again is safe.
    """
    if not rows:
        return {}
    known = read_known(runtime, [(row.period_start, row.period_end) for row in rows])
    if not known.promises_anything():
        return {}
    found = _look_at(runtime, [row.invoice_id for row in rows], known)
    return {invoice_id: cents for invoice_id, _, cents in found if isinstance(cents, TallyError)}


def credit_late_incidents(runtime: Runtime, org_id: str | None = None) -> list[tuple[str, str, int | TallyError]]:
    """Look again at issued months that an incident touches which was recorded since they were looked at.

    Args:
        org_id: only this org's; None for all.

    Returns:
        Org and month of each, and how many cents were given now, or what kept it from being looked at.

    Raises:
        Unavailable: `journal_busy`, `database_unreachable`, …; doing it again is safe.
    """
    if not read_known(runtime, ()).promises_anything():
        return []
    with runtime.database.operator() as connection:
        left = unlooked(connection, org_id)
    done: list[tuple[str, str, int | TallyError]] = []
    for start in range(0, len(left), _AT_ONCE):
        some = left[start : start + _AT_ONCE]
        known = read_known(runtime, [(one.start, one.end) for one in some])
        found = _look_at(runtime, [one.invoice_id for one in some], known)
        done += [(one.org_id, one.month, cents) for one, (_, _, cents) in zip(some, found, strict=True)]
    return done


_Looked = tuple[str, MonthCredit | None, int | TallyError]
"""Of an invoice: what its month comes to, and how many cents were given now, or what kept it from being looked at."""
_Seen = tuple[MonthCredit, Operation | None]
"""What a month comes to, and what gives that beyond what was given; None where there is nothing to give."""


def _look_at(runtime: Runtime, invoices: Sequence[str], known: Known) -> list[_Looked]:
    """Look at months side by side, have what they are credited written together, and note with which incidents: all
    that something is promised of, so that it shows which of them a later incident is news to.
    """
    with runtime.database.operator() as connection:
        documents = documents_of(connection, invoices)
    done: dict[str, _Looked] = {}
    left = list(invoices)
    for _ in range(_TRIES):
        with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="sla") as pool:
            seen = list(pool.map(partial(_look, runtime, known), [documents[one] for one in left]))
        again = []
        for invoice_id, found in zip(left, _given(runtime, seen), strict=True):
            if isinstance(found[1], Conflict) and found[1].code == "request_id_conflict":
                again.append(invoice_id)
            else:
                done[invoice_id] = (invoice_id, *found)
        if not again:
            break
        left = again
        known = known_of(runtime, [parse_invoice(documents[one]) for one in left])  # another process was first
    else:
        raise Unavailable(
            "journal_busy",
            f"others keep giving credits for the month of invoice {left[0]}",
            next_step="run it again",
        )
    looks = [
        Look(month.invoice.org_id, month.invoice.invoice_id, month.through, month.result.credit_cents)
        for _, month, _ in done.values()
        if month is not None and known.promises(month.invoice)
    ]
    with runtime.database.operator() as connection:
        add_looks(connection, looks)
    return [done[one] for one in invoices]


def _look(runtime: Runtime, known: Known, document: str) -> _Seen | TallyError:
    """What the month comes to, and what gives that; or what keeps it from being looked at."""
    try:
        invoice = parse_invoice(document)
        found = month_credit(runtime, invoice, known)
        given = given_for(runtime, invoice.org_id, invoice.period.label) if found.result.credit_cents else []
        return found, _credit(runtime, found, given)
    except Unavailable:
        raise
    except TallyError as error:
        return error


def _given(
    runtime: Runtime, seen: Sequence[_Seen | TallyError]
) -> Iterator[tuple[MonthCredit | None, int | TallyError]]:
    """Of each month what it comes to, and how many cents were given for it now, or what kept it from that."""
    asked = [one[1] for one in seen if not isinstance(one, TallyError) and one[1] is not None]
    answers = iter(submit_together(runtime, asked))
    for one in seen:
        if isinstance(one, TallyError):
            yield None, one
            continue
        month, credit = one
        if credit is None:
            yield month, 0
            continue
        answer = next(answers)
        if isinstance(answer, TallyError):
            yield None, answer
        else:
            yield month, credit.request.amount_cents if isinstance(credit.request, GiveCredit) and answer.is_new else 0


def _credit(runtime: Runtime, found: MonthCredit, given: Sequence[Given]) -> Operation | None:
    """What gives the month what it comes to beyond what was given."""
    month, given_cents = found.invoice.period.label, sum(one.amount_cents for one in given)
    rest_cents = found.result.credit_cents - given_cents
    if rest_cents <= 0:
        return None
    # Whoever knows of the same credits asks under the same id, so that one of them is refused.
    place = (given[-1].place if given else 0) + 1
    return credit_by_itself(
        runtime,
        found.invoice.org_id,
        source="sla",
        amount_cents=rest_cents,
        reason=f"service credit for {month}" + (", incidents that were recorded later" if given else ""),
        author=AUTHOR,
        request_id=f"{REQUEST_PREFIX}{month}" + (f":{place}" if place > 1 else ""),
        about=_bounded(credit_evidence(found, given_cents)),
    )


def _bounded(evidence: dict[str, Any]) -> dict[str, Any]:
    """The evidence, without the arithmetic of each plan where that is more than an entry holds; it can be redone."""
    if len(canonical_json(evidence)) <= ABOUT_BYTES_MAX:
        return evidence
    return {name: value for name, value in evidence.items() if name not in ("plans", "incidents")}
