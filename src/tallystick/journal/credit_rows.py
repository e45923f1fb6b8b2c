"""Credits in money and promo codes as the database holds them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from tallystick.billing.credits import CreditLot
from tallystick.billing.promos import PromoOffer, PromoTerms
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("credits")
_read_terms = msgspec.json.Decoder(PromoTerms).decode


class PromoVersion(NamedTuple):
    """One version of a promo code: what it gives, whether it can be redeemed no more, and who said so."""

    code: str
    version: int
    terms: PromoTerms
    ended: bool
    author: str
    reason: str
    recorded_at: datetime


def load_lots(connection: Connection, live: Collection[str], every: Collection[str]) -> list[tuple[str, CreditLot]]:
    """Credits with their orgs, which are locked: those of `live` that may not be used up, and all of `every`."""
    if not live and not every:
        return []
    rows = connection.execute(_SQL["lots"], {"live": list(live), "all": list(every)})
    return [(row[0], _lot(row)) for row in rows]


def save_lots(connection: Connection, lots: Iterable[tuple[str, CreditLot]]) -> None:
    """Save how credits stand, in the transaction that stores the entries."""
    rows = [{**msgspec.structs.asdict(lot), "org_id": org_id} for org_id, lot in lots]
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(_SQL["save_lot"], rows)


def list_lots(connection: Connection, org_id: str) -> list[CreditLot]:
    """All that an org was given, the first one first."""
    return [_lot(row) for row in connection.execute(_SQL["lots_of"], {"org": org_id})]


def orgs_with_lots(connection: Connection, org_id: str | None) -> list[str]:
    """Orgs of which credits in money are kept. An operator's transaction."""
    return [org for (org,) in connection.execute(_SQL["orgs_with_lots"], {"org": org_id})]


def invoiced_orgs(connection: Connection, orgs: Collection[str]) -> set[str]:
    """Those of these orgs that an invoice was issued to."""
    return {org for (org,) in connection.execute(_SQL["invoiced"], {"orgs": list(orgs)})}


def lock_codes(connection: Connection, codes: Collection[str]) -> None:
    """Have nobody else redeem or define these codes until this transaction ends."""
    connection.execute(_SQL["lock_codes"], {"codes": list(codes)})


def load_offers(connection: Connection, codes: Collection[str]) -> dict[tuple[str, bool], PromoOffer]:
    """The codes as they stand, by code and whether they are for test orgs; they are locked."""
    found = {}
    for code, version, terms, ended, *taken in connection.execute(_SQL["offers"], {"codes": list(codes)}):
        for is_test in (False, True):
            found[code, is_test] = PromoOffer(code, version, _read_terms(terms), ended, taken[is_test])
    return found


def save_counts(connection: Connection, offers: Iterable[tuple[bool, PromoOffer]]) -> None:
    """Save how many have redeemed each code."""
    rows = list(offers)
    if rows:
        values = {
            "codes": [offer.code for _, offer in rows],
            "tests": [is_test for is_test, _ in rows],
            "taken": [offer.taken for _, offer in rows],
        }
        connection.execute(_SQL["count_redeemed"], values)


def add_promo(connection: Connection, row: PromoVersion) -> None:
    """Append a version of a code, which is locked. An operator's transaction."""
    connection.execute(_SQL["add_promo"], {**row._asdict(), "terms": msgspec.json.encode(row.terms).decode()})


def list_promos(connection: Connection, code: str | None = None) -> list[PromoVersion]:
    """Every version of one code, or of all, the first one first. An operator's transaction."""
    rows = connection.execute(_SQL["promos"], {"code": code})
    return [PromoVersion(code, version, _read_terms(terms), *rest) for code, version, terms, *rest in rows]


def list_counts(connection: Connection, code: str | None = None) -> dict[tuple[str, bool], int]:
    """How many have redeemed each code, by code and whether they are test orgs. An operator's transaction."""
    return {(code, is_test): taken for code, is_test, taken in connection.execute(_SQL["counts"], {"code": code})}


def count_redeemed(connection: Connection) -> dict[tuple[str, bool], int]:
    """The same, counted from what orgs were given."""
    return {(code, is_test): count for code, is_test, count in connection.execute(_SQL["redeemed"])}


def _lot(row: tuple[Any, ...]) -> CreditLot:
    _org_id, seq, source, given_at, expires_at, amount, left, percent_bp, cap, invoices_left, *rest = row
    minimum, from_month, code, is_test = rest
    return CreditLot(
        seq=seq,
        source=source,
        given_at=given_at,
        expires_at=expires_at,
        amount_cents=amount,
        left_cents=left,
        percent_bp=percent_bp,
        cap_cents=cap,
        invoices_left=invoices_left,
        minimum_cents=minimum,
        from_month=from_month,
        code=code,
        is_test=is_test,
    )
