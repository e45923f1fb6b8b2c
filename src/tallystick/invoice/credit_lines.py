"""Credits on an invoice: what was topped up and what is owed, in USD, and what the month did to the wallet."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from tallystick.contract.model import Credit
from tallystick.contract.words import usd
from tallystick.core.errors import BadInput
from tallystick.core.money import cents_to_usd, format_decimal, format_exact, to_cents
from tallystick.invoice.model import Credits, GrantedCredits, InvoiceLine, InvoiceTier, LineKind, Wallet
from tallystick.invoice.terms import Section, Terms
from tallystick.invoice.wallet import WalletMonth
from tallystick.ledger.operations import CREDIT


def credit_lines(terms: Terms, wallet: WalletMonth, first_number: int) -> Iterator[InvoiceLine]:
    """A line for what was topped up and one for what is owed, for each plan in whose time it was.

    What came in a time without a plan is on the lines of the last one. Amounts are at what the contract says that a
    credit is worth.

    Raises:
        BadInput: `credits_without_price`, when it does not say.
    """
    number = first_number
    due: dict[tuple[int, LineKind], tuple[int, int]] = {}
    for place, found in wallet.topped_up.items():
        _add(due, (_section(terms, place), "top_up"), found.count, found.amount_pico)
    for place, amount_pico in wallet.owed.items():
        _add(due, (_section(terms, place), "credits_owed"), 0, amount_pico)
    for (place, kind), (count, amount_pico) in sorted(due.items()):
        if amount_pico:
            yield _line(number, place + 1, terms.sections[place], kind, count, amount_pico)
            number += 1


def wallet_section(wallet: WalletMonth) -> Wallet | None:
    """The month of the wallet as the document states it; None when nothing moved."""
    opening, closing = wallet.opening, wallet.closing
    if opening is None or closing is None:
        return None
    return Wallet(
        operations=wallet.operations,
        opening=Credits(available=_credits(opening[0]), held=_credits(opening[1])),
        granted=tuple(
            GrantedCredits(source=source, grants=found.count, credits=_credits(found.amount_pico))
            for source, found in sorted(wallet.granted.items())
        ),
        charged=_credits(wallet.charged),
        owed=_credits(sum(wallet.owed.values())),
        refunded=_credits(wallet.refunded),
        expired=_credits(wallet.expired),
        closing=Credits(available=_credits(closing[0]), held=_credits(closing[1])),
    )


def _section(terms: Terms, place: int) -> int:
    return terms.sections.index(terms.last[0]) if place == terms.unplanned else place


def _add(
    due: dict[tuple[int, LineKind], tuple[int, int]], key: tuple[int, LineKind], count: int, amount_pico: int
) -> None:
    counted, amount = due.get(key, (0, 0))
    due[key] = counted + count, amount + amount_pico


def _line(number: int, of_section: int, section: Section, kind: LineKind, count: int, amount_pico: int) -> InvoiceLine:
    credit = _credit(section)
    quantity = Fraction(amount_pico, CREDIT)
    exact = quantity * credit.usd
    cents = to_cents(exact)
    what = f"{count} top-up{'' if count == 1 else 's'}" if kind == "top_up" else "Charges beyond the wallet"
    price = f"{usd(credit.usd)} per {credit.name}"
    tier = InvoiceTier(
        tier=1,
        quantity=format_decimal(quantity),
        basis="units",
        billed=format_decimal(quantity),
        up_to=None,
        unit_usd=format_decimal(credit.usd),
        per="1",
        flat_usd="0",
        amount_usd=format_decimal(exact),
    )
    return InvoiceLine(
        number=number,
        section=of_section,
        plan=section.plan.name,
        kind=kind,
        meter=None,
        quantity=format_decimal(quantity),
        price=price,
        metered=(),
        tiers=(tier,),
        amount_usd=cents_to_usd(cents),
        exact_usd=format_exact(exact),
        residue_usd=format_exact(exact - Fraction(cents, 100)),
        description=f"{what}: {format_decimal(quantity)} × {price} = {usd(exact)}.",
    )


def _credit(section: Section) -> Credit:
    credit = section.contract.credit
    if credit is None:
        raise BadInput(
            "credits_without_price",
            f"credits are to be paid for under plan {section.plan.name}, and contract {section.contract.name} "
            f"{section.contract.version} does not say what one is worth",
            next_step="apply a version of the contract with `credit: {name: …, usd: …}`",
            where="credit",
        )
    return credit


def _credits(amount_pico: int) -> str:
    return format_decimal(Fraction(amount_pico, CREDIT))
