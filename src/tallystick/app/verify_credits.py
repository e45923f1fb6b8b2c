"""Checking credits in money: what is kept of them against what the entries come to; codes against who redeemed them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

import msgspec

from tallystick.app.verify_report import Findings
from tallystick.billing.credits import CreditLot
from tallystick.billing.promos import PromoTerms, given_by
from tallystick.journal.credit_rows import count_redeemed, list_counts, list_lots, list_promos, orgs_with_lots
from tallystick.journal.database import Connection
from tallystick.ledger.credit_operations import Redeemed, RedeemPromo


def check_lots(connection: Connection, org_id: str, due: dict[int, CreditLot], findings: Findings) -> None:
    """What an org was given, and what is left of it, is what its entries come to.

    Args:
        due: by entry, what they come to.
    """
    kept = {lot.seq: lot for lot in list_lots(connection, org_id)}
    for seq in sorted(kept.keys() | due.keys()):
        found, wanted = kept.get(seq), due.get(seq)
        if found == wanted:
            continue
        if found is None or wanted is None:
            what = "is missing" if found is None else "is there, and no entry has given it"
        else:
            what = f"says {_left(found)}, and its entries come to {_left(wanted)}"
            what += " and other terms" if _left(found) == _left(wanted) else ""
        findings.add("state", f"invoice_credit_lots: the credit {seq} {what}", org_id, seq if wanted else None)


def check_redeemed(
    connection: Connection,
    org_id: str,
    redeemed: Iterable[tuple[int, datetime, RedeemPromo, Redeemed]],
    findings: Findings,
) -> None:
    """What codes have given is what they were defined to give.

    Args:
        redeemed: an org's redemptions, each with its entry and when that was recorded.
    """
    found = list(redeemed)
    if not found:
        return
    promos = {(one.code, one.version): one.terms for one in list_promos(connection)}
    for seq, at, request, result in found:
        terms = promos.get((request.code, result.version))
        if terms is None:
            what = f"version {result.version} of the promo code {request.code} is not there"
            findings.add("account", what, org_id, seq)
        elif given_by(terms, version=result.version, at=at) != msgspec.structs.replace(result, left_cents=0):
            what = f"it gives something else than version {result.version} of the promo code {request.code}"
            findings.add("account", what, org_id, seq)


def check_promos(connection: Connection, findings: Findings) -> None:
    """Each code was redeemed as often as it is counted, and no more often than any version of it has allowed: one with
    a smaller limit takes nothing from those who redeemed it before.
    """
    counts, redeemed = list_counts(connection), count_redeemed(connection)
    versions: dict[str, list[PromoTerms]] = {}
    for one in list_promos(connection):
        versions.setdefault(one.code, []).append(one.terms)
    for code, is_test in sorted(counts.keys() | redeemed.keys()):
        counted, borne = counts.get((code, is_test), 0), redeemed.get((code, is_test), 0)
        if counted != borne:
            whose = "test orgs" if is_test else "orgs"
            what = f"promo_counts: {counted} {whose} have redeemed {code}, and {borne} have it"
            findings.add("state", what)
        limits = [terms.limit for terms in versions.get(code, []) if terms.limit is not None]
        limit = max(limits) if limits and len(limits) == len(versions[code]) else None
        if limit is not None and borne > limit:
            findings.add("state", f"the promo code {code} is redeemed {borne} times, and may be {limit} times")


def check_unknown_lots(
    connection: Connection, org_id: str | None, checked: Collection[str], findings: Findings
) -> None:
    """No credits in money are kept of an org that has no entries on any."""
    for org in orgs_with_lots(connection, org_id):
        if org not in checked:
            findings.add("state", f"credits in money are kept of {org}, and no entry knows of any", org)


def _left(lot: CreditLot) -> str:
    if lot.percent_bp is not None:
        left = "all" if lot.invoices_left is None else str(lot.invoices_left)
        return f"{lot.percent_bp} basis points of {left} more invoices"
    return f"{lot.left_cents} of {lot.amount_cents} cents left"
