"""FOCUS rows: the columns of the specification, nulls where it asks for them, and sums that are the invoice's."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable
from fractions import Fraction

import pytest

from document_samples import ISSUE, invoice_of, with_adjustments, with_wallet
from document_samples import usage_invoice as usage
from invoicing import event
from tallystick.invoice.documents.focus import FOCUS_COLUMNS, focus_csv
from tallystick.invoice.documents.issue import Issue, Party, bill_to_party
from tallystick.invoice.model import Invoice

NEVER_NULL = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodStart", "BillingPeriodEnd",
    "ChargeCategory", "ChargeDescription", "ChargeFrequency", "ChargePeriodStart", "ChargePeriodEnd", "ContractedCost",
    "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName",
    "HostProviderName", "ServiceProviderName", "ServiceCategory", "ServiceName", "SkuId", "Tags",
)  # fmt: skip


def rows_of(invoice: Invoice, issue: Issue = ISSUE) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(focus_csv(invoice, issue)), newline=""), strict=True))


def shared() -> Invoice:
    return invoice_of("pro", event("r1", meters={"tokens_in": 1_234_567, "tool_calls": 27, "pages_reviewed": 7}))


SAMPLES: dict[str, Callable[[], Invoice]] = {
    "tiers": usage,
    "packages": shared,
    "adjustments": lambda: with_adjustments(usage()),
    "wallet": lambda: with_wallet(usage()),
    "cost": lambda: invoice_of("resale", event("r1", meters={"tokens_in": 1_000_001, "tokens_out": 7})),
    "nothing": lambda: invoice_of("enterprise"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_rows_add_up_to_the_invoice_and_each_to_its_price(name: str) -> None:
    invoice = SAMPLES[name]()
    rows = rows_of(invoice)
    for column in ("BilledCost", "EffectiveCost"):
        assert sum(Fraction(row[column]) for row in rows) == Fraction(invoice.totals.total_usd)
    exact = sum(Fraction(row["ContractedCost"]) for row in rows)
    assert exact == Fraction(invoice.totals.exact_total_usd)
    for line in invoice.lines:
        billed = [Fraction(row["BilledCost"]) for row in rows if row["x_InvoiceLine"] == str(line.number)]
        assert sum(billed) == Fraction(line.amount_usd)
    for row in rows:
        assert Fraction(row["ContractedUnitPrice"]) * Fraction(row["PricingQuantity"]) == Fraction(
            row["ContractedCost"]
        )


@pytest.mark.parametrize("name", SAMPLES)
def test_columns_and_nulls_are_those_of_the_specification(name: str) -> None:
    for row in rows_of(SAMPLES[name]()):
        assert tuple(row) == FOCUS_COLUMNS
        assert [column for column in NEVER_NULL if not row[column]] == []
        assert row["ChargeCategory"] in ("Usage", "Purchase")
        assert row["ChargeFrequency"] in ("One-Time", "Recurring", "Usage-Based")
        assert row["ServiceCategory"] == "AI and Machine Learning"
        assert (row["ConsumedQuantity"] != "") == (row["ChargeCategory"] == "Usage")
        assert (row["ConsumedUnit"] != "") == (row["ConsumedQuantity"] != "")
        assert isinstance(json.loads(row["Tags"]), dict)
        for column in ("BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row[column])


def test_what_is_corrected_lies_in_its_own_month() -> None:
    own, before, now = rows_of(with_adjustments(usage()))
    assert (own["ChargeClass"], own["ChargePeriodStart"]) == ("", "2026-10-01T00:00:00Z")
    assert (before["ChargeClass"], before["ChargePeriodStart"]) == ("Correction", "2026-09-01T00:00:00Z")
    assert (before["BilledCost"], now["BilledCost"]) == ("-150", "80")
    assert before["BillingPeriodStart"] == "2026-10-01T00:00:00Z"


def test_a_draft_has_no_invoice_id() -> None:
    draft = rows_of(usage(), Issue(bill_to=bill_to_party("globex", None)))
    assert {row["InvoiceId"] for row in draft} == {""}
    assert {row["InvoiceId"] for row in rows_of(usage())} == {"ACME-2026-000017"}


def test_no_name_becomes_a_formula() -> None:
    names = ("=cmd|' /C calc'!A0", "+1", "-1", "@x", "\t=1", 'a"b,c\r\n=2')
    for name in names:
        row = rows_of(usage(), dataclasses.replace(ISSUE, bill_to=Party(name), seller=Party(name)))[0]
        for column in ("BillingAccountName", "InvoiceIssuerName", "ProviderName"):
            assert row[column].removeprefix("'") == name
            assert not re.match(r"[=+\-@\t\r]", row[column])
