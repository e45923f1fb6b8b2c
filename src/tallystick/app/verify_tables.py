"""Checking what is not entries: rate cards, contracts, invoices, balances, and rows that belong to nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from tallystick.app.verify_report import Findings, VerifyReport
from tallystick.contract.loader import load_contract
from tallystick.core.errors import TallyError
from tallystick.core.instants import format_instant
from tallystick.invoice.canonical import canonical_json
from tallystick.invoice.digest import internal_sha256, invoice_digest
from tallystick.invoice.digest import invoice_id as due_invoice_id
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.journal.database import Connection
from tallystick.journal.verify_rows import ask
from tallystick.ledger.accounts import MONEY_ACCOUNTS, ORG_ACCOUNTS, USD
from tallystick.ledger.api_key import person_sha256
from tallystick.ledger.merkle import EMPTY_ROOT
from tallystick.rates.cardfile import parse_card_file

WantRoot = Callable[[str, int, bytes, str], None]


def check_versions(connection: Connection, findings: Findings) -> None:
    """Rate cards and contracts: each text has its hash, and its columns are what the text says."""
    previous: str | None = None
    for place, (ordinal, version, known_at, sha256, source, card) in enumerate(ask(connection, "rate_versions"), 1):
        content = bytes(card)
        named = f"rate card {version}"
        if hashlib.sha256(content).hexdigest() != sha256:
            findings.add("rate_card", f"{named}: its text does not have its hash: it was changed")
        try:
            header = parse_card_file(content).header
        except TallyError as error:
            findings.add("rate_card", f"{named}: {error.detail}")
        else:
            if (header.version, header.known_at, header.source) != (version, known_at, source):
                findings.add("rate_card", f"{named}: its columns are not what its text says")
            if header.previous != previous or ordinal != place:
                findings.add("rate_card", f"{named} does not continue the chain: one is missing or out of its place")
        previous = sha256
    for name, version, sha256, _, source_name, text, meters in ask(connection, "contracts"):
        named = f"contract {name} version {version}"
        try:
            contract = load_contract(text, source_name)
        except TallyError as error:
            findings.add("contract", f"{named}: {error.detail}")
            continue
        if contract.sha256 != sha256:
            findings.add("contract", f"{named}: its text does not have its hash: it was changed")
        # From when it holds may be said apart from the text (`contract apply --from`): the register keeps that.
        columns = (name, version, sorted(meters))
        if columns != (contract.name, contract.version, sorted(contract.meters)):
            findings.add("contract", f"{named}: its columns are not what its text says")


def check_invoices(connection: Connection, org_id: str | None, report: VerifyReport, want_root: WantRoot) -> None:
    """Closed invoices: digest, columns, what they pin. Their trees' roots are asked of `want_root`."""
    findings = report.findings
    rates = {version for _, version, *_ in ask(connection, "rate_versions")}
    contracts = {(name, version): sha256 for name, version, sha256, *_ in ask(connection, "contracts")}
    for row in ask(connection, "invoices", org=org_id):
        report.invoices += 1
        number, org, text = row[0], row[1], row[-1]
        named = f"invoice {number}"
        try:
            invoice = parse_invoice(text)
        except TallyError as error:
            findings.add("invoice", f"{named}: {error.detail}", org)
            continue
        for problem in _invoice_problems(invoice, row):
            findings.add("invoice", f"{named}: {problem}", org)
        missing = sorted({one.rate_version for one in invoice.rates} - rates)
        if missing:
            findings.add("invoice", f"{named}: rate card {missing[0]} is not in the database", org)
        if any(contracts.get((one.contract, one.version)) != one.sha256 for one in invoice.sections):
            findings.add("invoice", f"{named}: a contract version that it names is not the one in the database", org)
        _want(invoice, org, named, findings, want_root)


def _want(invoice: Invoice, org: str, named: str, findings: Findings, want_root: WantRoot) -> None:
    pin = invoice.ledger
    try:
        root = bytes.fromhex(pin.root)
    except ValueError:
        findings.add("invoice", f"{named}: the root that it pins is not a hash", org)
        return
    if pin.tree_size:
        want_root(org, pin.tree_size, root, named)
    elif root != EMPTY_ROOT:
        findings.add("invoice", f"{named}: it pins a root of a tree without entries that is not that tree's", org)


def _invoice_problems(invoice: Invoice, row: tuple[Any, ...]) -> list[str]:
    document = invoice.document()
    problems = []
    if canonical_json(json.loads(row[-1])).decode() != row[-1]:
        problems.append("its document is not in canonical form")
    if invoice_digest(document) != invoice.digest:
        problems.append("its digest is not that of its document: it was changed")
    if internal_sha256(document["internal"]) != invoice.internal_sha256:
        problems.append("its internal section was changed")
    stated = (
        invoice.invoice_id,
        invoice.org_id,
        invoice.period.label,
        invoice.period.start,
        invoice.period.end,
        invoice.contract.name,
        invoice.contract.version,
        invoice.contract.sha256,
        invoice.contract.plan,
        invoice.ledger.through_seq,
        invoice.digest,
        invoice.total_cents,
    )
    stored = (*row[:3], format_instant(row[3]), format_instant(row[4]), *row[5:-1])
    if stored != stated:
        problems.append("its columns are not what its document says")
    if due_invoice_id(invoice.org_id, invoice.contract.name, invoice.period.label) != invoice.invoice_id:
        problems.append("its id is not that of its org, contract and month")
    return problems


def check_register(connection: Connection, org_id: str | None, findings: Findings) -> None:
    """Every row that has no leaf is as it was when the database registered it, and none is gone."""
    chain, due = bytes(32), 1
    for n, relation, digest, link in ask(connection, "register"):
        chain = hashlib.sha256(chain + bytes(digest)).digest()
        if n != due or bytes(link) != chain:
            findings.add("register", f"row {n} of the register, of {relation}, does not continue its chain")
            chain = bytes(link)
        due = n + 1
    for relation, named, org, seq, n in ask(connection, "unregistered"):
        if named is None:
            what = f"a row of {relation} is gone, or was changed: the one that the register has under {n}"
            findings.add("register", what)
        elif org_id in (None, org) or org is None:
            findings.add(
                "register",
                f"{named} (table {relation}) is not in the register as it is: it was changed, or put there",
                org,
                seq,
            )


def check_keys(connection: Connection, org_id: str | None, findings: Findings) -> None:
    """Whom a key stands for is who it was made for, or was erased with a record of it."""
    rows = ask(connection, "persons_of_keys", org=org_id)
    for key_id, org, is_there, salt, user_id, session_id, due in rows:
        if not is_there:
            findings.add("key", f"whom key {key_id} stands for is gone, and no erasure is recorded", org)
        elif due is None or person_sha256(bytes(salt), user_id=user_id, session_id=session_id) != bytes(due):
            findings.add("key", f"key {key_id} stands for another than it was made for (table api_key_persons)", org)


def check_accounts(connection: Connection, org_id: str | None, findings: Findings) -> None:
    """Balances are the sums of transfers, every org has its accounts, and nothing belongs to nobody."""
    for org, account, asset, debit, credit, debited, credited in ask(connection, "balances", org=org_id):
        what = (
            f"account {account} ({asset}) says {debit or 0} debited and {credit or 0} credited, "
            f"its transfers add up to {debited} and {credited}"
        )
        findings.add("balance", what, org)
    accounts = sorted(f"{account} {USD}" for account in ORG_ACCOUNTS)
    for org, found in ask(connection, "accounts", org=org_id, accounts=accounts, money=list(MONEY_ACCOUNTS)):
        findings.add("balance", f"it has the accounts {', '.join(found) or 'none'}, not those that every org has", org)
    for org, what in ask(connection, "strangers", org=org_id):
        findings.add("head", f"it has {what} and no head: its head was taken away, or the rows were put there", org)
    for org, seq in ask(connection, "stray_transfers", org=org_id):
        findings.add("transfer", "there is a transfer for an entry beyond the org's last", org, seq)
    for org, seq in ask(connection, "stray_erasures", org=org_id):
        findings.add("erasure", "an erasure is recorded of an entry that was never written", org, seq)
    for org, referred, seq in ask(connection, "corrected_twice", org=org_id):
        findings.add("correction", f"it corrects entry {referred}, which is corrected already", org, seq)
