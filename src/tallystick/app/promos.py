"""Promo codes: defined by the operator, redeemed once by each org, and how often each was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from tallystick.app.audit import Act, record_act
from tallystick.app.billing_terms import load_stored_contract
from tallystick.app.invoice_credits import CreditDone
from tallystick.app.left_entries import submit_and_wait
from tallystick.app.operate import existing_org, new_salt
from tallystick.app.runtime import Runtime
from tallystick.billing.credit_checks import promo_terms, redeem_operation
from tallystick.billing.promos import CODE, PromoTerms, written_code
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.core.instants import format_instant
from tallystick.journal.contracts import list_contract_versions
from tallystick.journal.credit_rows import PromoVersion, add_promo, list_counts, list_promos, lock_codes
from tallystick.journal.database import Connection
from tallystick.usage.event_problems import check_text


@dataclass(frozen=True, slots=True)
class Promo:
    """A promo code: all its versions, the first one first, and how many have redeemed it.

    Attributes:
        taken, taken_by_tests: how many orgs, and how many that have a test clock.
        is_new: whether its newest version was added now.
    """

    versions: tuple[PromoVersion, ...]
    taken: int
    taken_by_tests: int
    is_new: bool = False

    @property
    def newest(self) -> PromoVersion:
        """The version that holds."""
        return self.versions[-1]

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members."""
        newest = self.newest
        limit = newest.terms.limit
        return {
            "code": newest.code,
            "version": newest.version,
            "ended": newest.ended,
            **newest.terms.as_dict(),
            "redeemed": self.taken,
            "redeemed_by_test_orgs": self.taken_by_tests,
            "left": None if limit is None else max(0, limit - self.taken),
            "is_new": self.is_new,
            "history": [
                {
                    "version": one.version,
                    "ended": one.ended,
                    "author": one.author,
                    "reason": one.reason,
                    "recorded_at": format_instant(one.recorded_at),
                }
                for one in self.versions
            ],
        }


def create_promo(runtime: Runtime, raw: object, *, replace: bool = False) -> Promo:
    """Define a promo code; the same again changes nothing.

    Args:
        raw: the decoded JSON value, with the members `billing.credit_checks.PROMO_MEMBERS`.
        replace: have a code that is there give this from now on; who has redeemed it keeps what it gave.

    Raises:
        BadInput, Problems: what is wrong with the request; `invalid_promo_code`, `invalid_promo`, `unknown_plan`.
        NotFound: `unknown_contract`.
        Conflict: `promo_exists`, when it gives something else, or is ended.
        Unavailable: `database_unreachable`; doing it again is safe.
    """
    code, terms, author, reason = promo_terms(raw, now=runtime.clock())
    with runtime.database.operator() as connection:
        lock_codes(connection, [code])
        versions = list_promos(connection, code)
        if versions and versions[-1].terms == terms and not versions[-1].ended:
            return _promo(connection, versions)
        if versions and not replace:
            how = "it is ended" if versions[-1].ended else "it gives something else"
            raise Conflict(
                "promo_exists",
                f"there is a promo code {code} already, and {how}",
                next_step="choose another code, or say that it is to be replaced",
                where="code",
            )
        _check_plans(connection, terms)
        return _add(runtime, connection, versions, code, terms, author, reason, ended=False)


def end_promo(runtime: Runtime, code: str, *, author: str, reason: str = "") -> Promo:
    """Have a code redeemed no more, from this instant on. Who has redeemed it keeps what it gave.

    Raises:
        BadInput: `invalid_text`.
        NotFound: `unknown_promo`.
        Unavailable: `database_unreachable`; doing it again is safe.
    """
    check_text("author", author)
    if reason:
        check_text("reason", reason)
    code = _written(code)
    with runtime.database.operator() as connection:
        lock_codes(connection, [code])
        versions = list_promos(connection, code)
        if not versions:
            raise _unknown(code)
        if versions[-1].ended:
            return _promo(connection, versions)
        return _add(runtime, connection, versions, code, versions[-1].terms, author, reason, ended=True)


def show_promo(runtime: Runtime, code: str) -> Promo:
    """A promo code, with all its versions.

    Raises:
        NotFound: `unknown_promo`.
        Unavailable: `database_unreachable`.
    """
    code = _written(code)
    with runtime.database.operator() as connection:
        versions = list_promos(connection, code)
        if not versions:
            raise _unknown(code)
        return _promo(connection, versions)


def all_promos(runtime: Runtime) -> list[Promo]:
    """Every promo code, by name.

    Raises:
        Unavailable: `database_unreachable`.
    """
    with runtime.database.operator() as connection:
        counts = list_counts(connection)
        found: dict[str, list[PromoVersion]] = {}
        for one in list_promos(connection):
            found.setdefault(one.code, []).append(one)
    return [
        Promo(tuple(versions), counts.get((code, False), 0), counts.get((code, True), 0))
        for code, versions in found.items()
    ]


def redeem_promo(runtime: Runtime, org_id: str, raw: object) -> CreditDone:
    """Redeem a promo code for an org; the same request id again is the same redemption.

    Args:
        org_id: the customer, who is known here.
        raw: the decoded JSON value, with the members `billing.credit_checks.REDEEM_MEMBERS`.

    Raises:
        BadInput, Problems: what is wrong with the request.
        NotFound: `unknown_org`, `unknown_promo`.
        Conflict: `promo_used`, `promo_ended`, `promo_expired`, `promo_exhausted`, `promo_not_for_plan`,
            `promo_for_new_customers`, `request_id_conflict`. Nothing is redeemed then, and no place taken.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; sending it again is safe.
    """
    check_text("org_id", org_id)
    operation = redeem_operation(org_id, raw, salt=new_salt(runtime), is_test=runtime.is_test_org(org_id))
    existing_org(runtime, org_id)
    return CreditDone(submit_and_wait(runtime, operation))


def _add(
    runtime: Runtime,
    connection: Connection,
    versions: list[PromoVersion],
    code: str,
    terms: PromoTerms,
    author: str,
    reason: str,
    *,
    ended: bool,
) -> Promo:
    row = PromoVersion(code, len(versions) + 1, terms, ended, author, reason, runtime.clock())
    add_promo(connection, row)
    act = Act(
        "promo.end" if ended else "promo.create",
        code,
        row.recorded_at,
        author=author,
        reason=reason or None,
        before=_told(versions[-1]) if versions else None,
        after=_told(row),
    )
    record_act(connection, act)
    return _promo(connection, [*versions, row], is_new=True)


def _told(row: PromoVersion) -> dict[str, Any]:
    return {"version": row.version, "ended": row.ended, **msgspec.to_builtins(row.terms)}


def _promo(connection: Connection, versions: list[PromoVersion], *, is_new: bool = False) -> Promo:
    counts = list_counts(connection, versions[-1].code)
    code = versions[-1].code
    return Promo(tuple(versions), counts.get((code, False), 0), counts.get((code, True), 0), is_new=is_new)


def _check_plans(connection: Connection, terms: PromoTerms) -> None:
    """A slip of the pen makes no code that nobody can redeem."""
    if terms.contract is None and not terms.plans:
        return
    versions = list_contract_versions(connection, terms.contract)
    if terms.contract is not None and not versions:
        raise NotFound(
            "unknown_contract",
            f"there is no contract {terms.contract!r}",
            next_step="name one that was applied: tally contract list",
            where="contract",
        )
    newest = {one.contract: one for one in versions}
    plans = {plan for one in newest.values() for plan in load_stored_contract(one).plans}
    unknown = [plan for plan in terms.plans if plan not in plans]
    if unknown:
        raise BadInput(
            "unknown_plan",
            f"no contract has a plan {unknown[0]!r}",
            next_step=f"name one of {', '.join(sorted(plans))}" if plans else "apply a contract first",
            where="plans",
        )


def _written(code: str) -> str:
    """The code in capitals, as it is kept.

    Raises:
        NotFound: `unknown_promo`, of what cannot be one.
    """
    written = written_code(code)
    if not CODE.fullmatch(written):
        raise _unknown(written)
    return written


def _unknown(code: str) -> NotFound:
    return NotFound(
        "unknown_promo",
        f"there is no promo code {code:.60}",
        next_step="list them: tally promo list",
        where="code",
    )
