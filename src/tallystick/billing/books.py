"""The books of orgs as a journal for hledger: lines of text, exact to the pico.

    2026-11-02 (p3) payment  ; kind:payment, entry:3, recorded:2026-11-02T12:00:00Z
        org:globex:cash               10.000000000000 USD
        org:globex:receivable        -10.000000000000 USD

An amount above zero is debited, one below zero is credited. Dates are of UTC. Accounts are `org:ORG:ACCOUNT`, of test
orgs `test:ORG:ACCOUNT`; what is no letter, digit, `.`, `_`, `@` or `-` in an org's id is written as in addresses, %XX.
Format: hledger's journal, as of hledger 1.25.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from types import MappingProxyType
from typing import Final, NamedTuple

from tallystick.core.instants import format_instant
from tallystick.ledger.accounts import CREDIT_ASSET, ORG_ACCOUNTS, PROVIDER_PAYABLE, PROVIDER_USAGE_COST, USD
from tallystick.ledger.operation_ids import operation_id

PLACES: Final = 12
OPENING: Final = "opening_balances"
"""The account that the balances at the beginning come from."""

_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@-")
_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cash": "C",
        "receivable": "A",
        "revenue": "R",
        "rounding": "R",
        "expired": "R",
        PROVIDER_USAGE_COST: "X",
        PROVIDER_PAYABLE: "L",
        "wallet_available": "L",
        "wallet_held": "L",
        "included_allowance": "X",
        OPENING: "E",
    }
)
"""What hledger calls the types of accounts; those that end on `_expense` are expenses (X) as well."""


class Moved(NamedTuple):
    """One transfer: an amount, in pico of the asset, from the credited account to the debited one."""

    debit_account: str
    credit_account: str
    asset: str
    amount_pico: int


class Balance(NamedTuple):
    """What an account has, its debits less its credits, in pico of the asset."""

    account: str
    asset: str
    pico: int


def journal_head(*, first: date | None, last: date | None) -> str:
    """The first lines of a journal.

    Args:
        first, last: its days, both of them in it; None: from the beginning, and up to now.
    """
    begin = "the beginning" if first is None else f"{first.isoformat()}, 00:00 UTC"
    end = "now" if last is None else f"the end of {last.isoformat()}, UTC"
    zeros = "0" * PLACES
    return (
        f"; Tallystick: transfers from {begin} to {end}\n"
        "; Above zero is debited, below zero is credited. Assertions at each org's end say what its accounts have.\n\n"
        f"commodity 1000.{zeros} {CREDIT_ASSET}\ncommodity 1000.{zeros} {USD}\n"
    )


def org_head(org: str, balances: Iterable[Balance]) -> str:
    """The declarations of an org's accounts.

    Args:
        org: as `org_prefix` writes it.
    """
    names = list(dict.fromkeys(one.account for one in balances))
    return "\n" + "".join(f"account {org}:{name}{_type(name)}\n" for name in (*names, OPENING))


def org_prefix(org_id: str, *, is_test: bool) -> str:
    """What the names of an org's accounts begin with; no other org's do."""
    name = "".join(chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in org_id.encode())
    return f"{'test' if is_test else 'org'}:{name}"


def opening(org: str, day: date, balances: Iterable[Balance]) -> str:
    """What accounts had before the journal's first day; nothing where they had nothing."""
    kept = [one for one in balances if one.pico]
    if not kept:
        return ""
    sums: dict[str, int] = {}
    for one in kept:
        sums[one.asset] = sums.get(one.asset, 0) - one.pico
    lines = [_posting(org, one.account, one.asset, one.pico) for one in kept]
    lines += [_posting(org, OPENING, asset, pico) for asset, pico in sums.items() if pico]
    return f"\n{day.isoformat()} (opening) opening balances  ; kind:opening\n" + "".join(lines)


def entry_text(org: str, kind: str, seq: int, first_seq: int, at: datetime, moves: Iterable[Moved]) -> str:
    """One entry's transaction; of usage, that of the entries which were written together. Nothing where none moves.

    Args:
        kind: of the entry; `usage` of what entries cost us together.
        first_seq: the first of the entries that it is for.
        at: when they were recorded.
    """
    lines = []
    for one in moves:
        if one.amount_pico:
            lines.append(_posting(org, one.debit_account, one.asset, one.amount_pico))
            lines.append(_posting(org, one.credit_account, one.asset, -one.amount_pico))
    if not lines:
        return ""
    entry = str(seq) if first_seq == seq else f"{first_seq}-{seq}"
    code = f"e{entry}" if kind == "usage" else operation_id(kind, seq)
    comment = f"kind:{kind}, entry:{entry}, recorded:{format_instant(at)}"
    return f"\n{at.date().isoformat()} ({code}) {kind.replace('_', ' ')}  ; {comment}\n" + "".join(lines)


def closing(org: str, day: date, balances: Iterable[Balance]) -> str:
    """Assertions of what accounts have at the end."""
    lines = [
        f"    {org}:{one.account}  {_amount(0)} {one.asset} = {_amount(one.pico)} {one.asset}\n" for one in balances
    ]
    return f"\n{day.isoformat()} (closing) balances  ; kind:closing\n" + "".join(lines) if lines else ""


def is_cost(moved: Moved) -> bool:
    """Whether it is what entries have cost us, and not what an operation moves."""
    return {moved.debit_account, moved.credit_account} == set(ORG_ACCOUNTS)


def _posting(org: str, account: str, asset: str, pico: int) -> str:
    return f"    {org}:{account}  {_amount(pico)} {asset}\n"


def _amount(pico: int) -> str:
    whole, part = divmod(abs(pico), 10**PLACES)
    return f"{'-' if pico < 0 else ''}{whole}.{part:0{PLACES}d}"


def _type(account: str) -> str:
    found = _TYPES.get(account, "X" if account.endswith("_expense") else None)
    return "" if found is None else f"  ; type:{found}"
