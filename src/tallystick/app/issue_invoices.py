"""Issuing stored invoices, many at a time: each is an operation of its own, and they share the commits.

An operation is made from what was read: the contract, and who is billed. Where a billing profile was erased meanwhile,
the writer refuses it (`billing_profile_erased`), and it is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice

from tallystick.app.billing_terms import load_stored_contract
from tallystick.app.left_entries import submit_together
from tallystick.app.operate import new_salt
from tallystick.app.runtime import Runtime
from tallystick.app.sla_credits import credit_breaches
from tallystick.billing.model import InvoiceAccount
from tallystick.billing.numbers import number_prefix
from tallystick.billing.party import seller_sha256
from tallystick.contract.model import Contract
from tallystick.core.errors import NotFound, TallyError, Unavailable
from tallystick.journal.billing import NewestProfile, issued_of, newest_profiles
from tallystick.journal.contracts import list_contract_versions
from tallystick.journal.invoices import InvoiceRow
from tallystick.journal.test_clocks import clocks_of
from tallystick.ledger.invoice_operations import IssueInvoice
from tallystick.ledger.operations import Operation, Recorded

ISSUED_AT_ONCE = 100
"""How many invoices are asked for together: they are written in a transaction or two."""
_TRIES = 5
_DONE = frozenset({"request_id_conflict", "invoice_issued"})
"""Another process was first: with the same profile, or another."""


@dataclass(frozen=True, slots=True)
class Issue:
    """What became of one: how the invoice stands and whether it was issued now, or the error that kept it from that."""

    row: InvoiceRow
    account: InvoiceAccount | None = None
    is_new: bool = False
    error: TallyError | None = None


def issue_stored(runtime: Runtime, rows: Iterable[InvoiceRow]) -> Iterator[Issue]:
    """Give stored invoices their numbers, in their order; those that are issued stay as they are. One that cannot be
    harms no other.

    Args:
        rows: each invoice once.

    Raises:
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; doing it again is safe.
    """
    contracts = cache(lambda name, sha256: contract_of(runtime, name, sha256))
    left = iter(rows)
    while batch := list(islice(left, ISSUED_AT_ONCE)):
        yield from _issue(runtime, batch, contracts)


def contract_of(runtime: Runtime, name: str, sha256: str) -> Contract:
    """The stored contract version of that hash.

    Raises:
        NotFound: `unknown_contract`.
        Unavailable: `database_unreachable`.
    """
    with runtime.database.operator() as connection:
        for version in list_contract_versions(connection, name):
            if version.sha256 == sha256:
                return load_stored_contract(version)
    raise NotFound(
        "unknown_contract",
        f"the version of {name} that the invoice names is not stored",
        next_step="run `tally verify`: a contract version was taken away",
        where="contract",
    )


def _issue(runtime: Runtime, rows: Sequence[InvoiceRow], contracts: Callable[[str, str], Contract]) -> list[Issue]:
    found = _issued(runtime, rows)
    new: set[str] = set()
    left = [row for row in rows if row.invoice_id not in found]
    errors = credit_breaches(runtime, left)  # what a month is credited is taken off its own invoice
    left = [row for row in left if row.invoice_id not in errors]
    for _ in range(_TRIES):
        if not left:
            break
        again = []
        for row, answer in _submitted(runtime, left, contracts):
            if isinstance(answer, Recorded):
                if answer.is_new:
                    new.add(row.invoice_id)
            elif answer.code == "billing_profile_erased":
                again.append(row)
                errors[row.invoice_id] = answer
            elif answer.code not in _DONE:
                errors[row.invoice_id] = answer
        left = again
    found |= _issued(runtime, [row for row in rows if row.invoice_id not in found])
    for row in rows:
        if row.invoice_id not in found and row.invoice_id not in errors:
            raise RuntimeError(f"invoice {row.invoice_id} is issued, and not there")
    return [
        Issue(row, found[row.invoice_id], is_new=row.invoice_id in new)
        if row.invoice_id in found
        else Issue(row, error=errors[row.invoice_id])
        for row in rows
    ]


def _issued(runtime: Runtime, rows: Sequence[InvoiceRow]) -> dict[str, InvoiceAccount]:
    if not rows:
        return {}
    with runtime.database.operator() as connection:
        return issued_of(connection, [(row.org_id, row.invoice_id) for row in rows])


def _submitted(
    runtime: Runtime, rows: Sequence[InvoiceRow], contracts: Callable[[str, str], Contract]
) -> list[tuple[InvoiceRow, Recorded | TallyError]]:
    """What became of the operations, which all wait together.

    Raises:
        Unavailable: the first that is; those that were taken come to their end all the same.
    """
    orgs = sorted({row.org_id for row in rows})
    with runtime.database.operator() as connection:
        profiles = newest_profiles(connection, orgs)
        tests = clocks_of(connection, orgs).keys()
    asked: list[tuple[InvoiceRow, Operation]] = []
    answers: list[tuple[InvoiceRow, Recorded | TallyError]] = []
    for row in rows:
        try:
            contract = contracts(row.contract, row.contract_sha256)
        except Unavailable:
            raise
        except TallyError as error:
            answers.append((row, error))
            continue
        asked.append((row, _operation(runtime, row, contract, profiles.get(row.org_id), is_test=row.org_id in tests)))
    found = submit_together(runtime, [operation for _, operation in asked])
    return answers + [(row, answer) for (row, _), answer in zip(asked, found, strict=True)]


def _operation(
    runtime: Runtime, row: InvoiceRow, contract: Contract, profile: NewestProfile | None, *, is_test: bool
) -> Operation:
    seller = contract.seller
    request = IssueInvoice(
        invoice_id=row.invoice_id,
        period=row.period,
        digest=row.digest,
        total_cents=row.total_cents,
        prefix=number_prefix(None if seller is None else seller.number_prefix, "invoice", is_test=is_test),
        terms_seconds=int(contract.invoicing.payment_terms.total_seconds()),
        contract=contract.name,
        contract_version=contract.version,
        contract_sha256=contract.sha256,
        seller_sha256=seller_sha256(seller),
        bill_to=None if profile is None else profile.version,
        bill_to_sha256=None if profile is None else profile.sha256.hex(),
        is_test=is_test,
    )
    return Operation(
        org_id=row.org_id, kind="invoice", request_id=row.invoice_id, request=request, salt=new_salt(runtime)
    )
