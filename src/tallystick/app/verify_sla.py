"""Checking service credits: each is computed again from what it was computed from, and none is owed.

An entry names the invoice and the number of the last incident that was known. With the records up to that number, the
contracts that the invoice pins and the ledger's requests, the month comes to what it came to then; less what was given
before, that is what the entry gives. What months were looked at with comes to the same again, too, and was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

from tallystick.app.entries import Ledger
from tallystick.app.history import FOR_EVER, SINCE_EVER
from tallystick.app.sla import Given, MonthCredit, given_for, month_credit
from tallystick.app.sla_known import Known, read_known
from tallystick.app.verify_report import Findings
from tallystick.billing.sla import plan_members
from tallystick.core.errors import TallyError, Unavailable
from tallystick.core.money import cents_to_usd
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.journal.sla import Look, documents_of, list_looks, never_looked

_CHECK = "sla"
_AT_ONCE = 100
_SIDE_BY_SIDE = 4


def check_sla(ledger: Ledger, org_id: str | None, findings: Findings) -> None:
    """Compute every service credit again, and every month that was looked at; and no month that something is promised
    of was issued without.

    Args:
        org_id: only this org's; None for all.

    Raises:
        Unavailable: `database_unreachable`.
    """
    with ledger.database.operator() as connection:
        looks = list_looks(connection, org_id)  # before what is known: it has all that these were made with
    known = read_known(ledger, [(SINCE_EVER, FOR_EVER)])
    with ledger.database.operator() as connection:
        for org, invoice_id in never_looked(connection, org_id, known.promising()):
            what = f"invoice {invoice_id} is issued, and its month was not looked at before (table sla_looks)"
            findings.add(_CHECK, what, org)
    by_month: dict[str, list[Look]] = {}
    for look in looks:
        by_month.setdefault(look.invoice_id, []).append(look)
    left = iter(by_month.items())
    with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="sla") as pool:
        while some := dict(islice(left, _AT_ONCE)):
            with ledger.database.operator() as connection:
                documents = documents_of(connection, list(some))
            texts = [documents.get(invoice_id) for invoice_id in some]
            for found in pool.map(partial(_check_month, ledger, known), texts, some.values()):
                findings.extend(found)


def _check_month(ledger: Ledger, known: Known, document: str | None, looks: Sequence[Look]) -> Findings:
    findings, (org, invoice_id, _, _) = Findings(), looks[0]
    try:
        if document is None:
            findings.add(_CHECK, f"invoice {invoice_id}, whose month was looked at, is not stored", org)
        else:
            _MonthCheck(ledger, parse_invoice(document), known, findings).run(looks)
    except Unavailable:
        raise
    except TallyError as error:
        findings.add(_CHECK, f"the service credit of invoice {invoice_id} cannot be computed: {error.detail}", org)
    return findings


class _MonthCheck:
    """The check of one month: what it came to with the incidents of each time is computed once."""

    def __init__(self, ledger: Ledger, invoice: Invoice, known: Known, findings: Findings) -> None:
        self._ledger, self._invoice, self._findings = ledger, invoice, findings
        self._known = known
        self._computed: dict[int, MonthCredit] = {}

    def run(self, looks: Sequence[Look]) -> None:
        """Check the month's looks, which were read before its entries are, and its entries."""
        org_id, month = self._invoice.org_id, self._invoice.period.label
        given_cents = 0
        for given in given_for(self._ledger, org_id, month):
            self._check_given(given, given_cents)
            given_cents += given.amount_cents
        for look in looks:
            due_cents = self._with(look.incidents_through).result.credit_cents
            where = f"with the incidents up to inc{look.incidents_through}, {month}"
            if due_cents != look.credit_cents:
                noted = cents_to_usd(look.credit_cents)
                self._add(f"{where} comes to {cents_to_usd(due_cents)} USD, and {noted} is noted (table sla_looks)")
            elif due_cents > given_cents:
                due = f"{where} comes to {cents_to_usd(due_cents)} USD"
                self._add(f"{due}, and {cents_to_usd(given_cents)} was given")

    def _check_given(self, given: Given, before_cents: int) -> None:
        about, invoice = given.about or {}, self._invoice
        through = about.get("incidents_through")
        if about.get("invoice_id") != invoice.invoice_id or not isinstance(through, int):
            self._add("it is a service credit, and does not say what it was computed from", given.seq)
            return
        if about.get("invoice_digest") != invoice.digest:
            self._add(f"it was computed from another invoice for {invoice.period.label} than the stored one", given.seq)
        found = self._with(through)
        due_cents = found.result.credit_cents - before_cents
        if given.amount_cents != due_cents:
            says = f"it gives {cents_to_usd(given.amount_cents)} USD, and {cents_to_usd(due_cents)} was due"
            self._add(f"{says} with the incidents up to inc{through}", given.seq)
        elif "plans" in about and about["plans"] != [plan_members(one) for one in found.result.plans]:
            self._add("it states another arithmetic than what it was computed from comes to", given.seq)

    def _with(self, through: int) -> MonthCredit:
        if through not in self._computed:
            self._computed[through] = month_credit(self._ledger, self._invoice, self._known, through=through)
        return self._computed[through]

    def _add(self, detail: str, seq: int | None = None) -> None:
        self._findings.add(_CHECK, detail, self._invoice.org_id, seq)
