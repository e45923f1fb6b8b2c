"""What the tests of documents share: invoices with tiers, adjustments and a wallet, and how they were issued."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import structs

from invoicing import CONTRACT, event, month_terms, usage_entry
from tallystick.app.cards import load_card_history
from tallystick.contract.loader import load_contract
from tallystick.invoice.build import build_invoice
from tallystick.invoice.digest import entries_sha256
from tallystick.invoice.documents.issue import Issue, Party
from tallystick.invoice.model import (
    AdjustedStep,
    Adjustment,
    AdjustmentPin,
    Credits,
    CustomerPaid,
    GrantedCredits,
    Invoice,
    InvoiceLine,
    InvoicePeriod,
    InvoiceTier,
    LedgerPin,
    MeterUse,
    NotCharged,
    Totals,
    Wallet,
)
from tallystick.invoice.usage import PeriodFacts, PeriodSums
from tallystick.ledger.merkle import root
from tallystick.usage.event import UsageEvent

HOSTILE = "=cmd|' /C calc'!A0 <script>alert(1)</script> & \"x\" ' #panic() $x$ *b* \\"
ISSUED = datetime(2026, 11, 2, tzinfo=UTC)
ISSUE = Issue(
    bill_to=Party("Globex Köln GmbH & Co. KG", ("Hauptstraße 1", "50667 Köln", "Account globex")),
    number="ACME-2026-000017",
    issued_at=ISSUED,
    due_at=datetime(2026, 11, 16, tzinfo=UTC),
    entry_seq=1042,
    seller=Party("Acme Analytics Inc.", ("548 Market Street", "San Francisco", "Tax id US-77-1234567")),
    how_to_pay=("Bank transfer to First Bank", "IBAN DE02 1203 0000 0000 2020 51"),
    purchase_order="PO-7781",
)
BASE_FEE = InvoiceLine(
    number=1,
    section=1,
    plan="enterprise",
    kind="base_fee",
    meter=None,
    quantity="1",
    price="base fee",
    metered=(),
    tiers=(),
    amount_usd="10.00",
    exact_usd="10",
    residue_usd="0",
    description="Base fee of the Enterprise plan.",
)
WALLET = Wallet(
    operations=9,
    opening=Credits(available="1000", held="0"),
    granted=(
        GrantedCredits(source="included", grants=1, credits="10000"),
        GrantedCredits(source="top_up", grants=1, credits="500"),
    ),
    charged="8123.5",
    owed="0",
    refunded="20",
    expired="376.5",
    closing=Credits(available="3000", held="20"),
)


def invoice_of(plan: str, *events: UsageEvent) -> Invoice:
    """The invoice of these requests under a plan of the contract that tests share."""
    card, sums, leaves = load_card_history().latest, PeriodSums(), []
    for seq, one in enumerate(events, start=1):
        cost = card.price_event(one)
        sums.add_request(one, cost)
        leaves.append(usage_entry(one, cost, seq).leaf)
    pin = LedgerPin(
        first_seq=min(1, len(events)),
        through_seq=len(events),
        billed_through_seq=0,
        events=len(events),
        entries_sha256=entries_sha256(enumerate(leaves, start=1)),
        tree_size=len(events),
        root=root(leaves).hex(),
    )
    terms = month_terms(load_contract(CONTRACT, "acme.yaml"), (plan, None))
    return build_invoice(terms, PeriodFacts((sums, PeriodSums()), pin))


def usage_invoice() -> Invoice:
    """Two meters with tiers, one without a price, and requests that are not charged."""
    return invoice_of(
        "enterprise",
        event("r1", meters={"tokens_in": 12_234_567, "tokens_out": 1_500_001, "tool_calls": 7}),
        event("r2", environment="development"),
        event("r3", outcome="failure"),
    )


def with_adjustments(invoice: Invoice, *, now_quantity: str = "16") -> Invoice:
    """15 calls at 10.00 were billed in September; with one that came late they are 16 at 5.00: 70.00 less.

    With a larger `now_quantity` those 16 are what the second tier prices of so many.
    """
    none = NotCharged(meters=(), events=())
    adjustment = Adjustment(
        number=1,
        invoice_id="inv_" + "01" * 16,
        period=InvoicePeriod(
            label="2026-09", start="2026-09-01T00:00:00Z", end="2026-10-01T00:00:00Z", time_zone="UTC"
        ),
        sections=invoice.sections,
        subscriptions_known=1,
        rates=(),
        ledger=AdjustmentPin(
            first_seq=1, billed_through_seq=900, through_seq=1041, entries=1, events=1,
            first_arrived="2026-10-04T00:00:00Z", last_arrived="2026-10-04T00:00:00Z", entries_sha256="ab" * 32,
        ),
        not_charged=none,
        customer_paid=CustomerPaid(events=0, cost_usd="0", unpriced_events=0, models=()),
        wallet=None,
        totals=Totals(total_usd="-70.00", exact_total_usd="-70", residue_usd="0"),
    )  # fmt: skip
    before, after = _tier(1, "15", "15", "10", "150"), _tier(2, "16", None, "5", "80")
    lines = (BASE_FEE, _adjusted(2, "-150.00", before, None), _adjusted(3, "80.00", None, after, now_quantity))
    totals = Totals(total_usd="-60.00", exact_total_usd="-60", residue_usd="0")
    return structs.replace(invoice, adjustments=(adjustment,), lines=lines, totals=totals, not_charged=none)


def with_wallet(invoice: Invoice) -> Invoice:
    """A month on credits: a base fee, and 500 credits that were bought."""
    bought = structs.replace(
        BASE_FEE,
        number=2,
        kind="top_up",
        quantity="500",
        price="0.01 USD per credit",
        tiers=(_tier(1, "500", None, "0.01", "5"),),
        amount_usd="5.00",
        exact_usd="5",
        description="1 top-up: 500 × 0.01 USD per credit = 5.00 USD.",
    )
    totals = Totals(total_usd="15.00", exact_total_usd="15", residue_usd="0")
    return structs.replace(invoice, lines=(BASE_FEE, bought), wallet=WALLET, totals=totals)


def _tier(tier: int, quantity: str, up_to: str | None, unit_usd: str, amount_usd: str) -> InvoiceTier:
    return InvoiceTier(
        tier=tier, quantity=quantity, basis="units", billed=quantity, up_to=up_to, unit_usd=unit_usd, per="1",
        flat_usd="0", amount_usd=amount_usd,
    )  # fmt: skip


def _adjusted(
    number: int, amount: str, before: InvoiceTier | None, after: InvoiceTier | None, now_quantity: str = "16"
) -> InvoiceLine:
    return structs.replace(
        BASE_FEE,
        number=number,
        kind="adjustment",
        meter="tool_calls",
        metered=(MeterUse(meter="tool_calls", unit="call", quantity="1", events=1),),
        amount_usd=amount,
        exact_usd=amount.removesuffix(".00"),
        description="Tool calls: 16 instead of 15.",
        adjusts=AdjustedStep(
            adjustment=1, kind="usage", billed_quantity="15", now_quantity=now_quantity,
            billed_usd="150.00", now_usd="80.00", before=before, after=after,
        ),
    )  # fmt: skip
