"""What a document says, in the words and numbers of its reader; and that none of it is ever code."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from msgspec import structs

from document_samples import BASE_FEE, HOSTILE, ISSUE, invoice_of, with_adjustments, with_wallet
from document_samples import usage_invoice as usage
from invoicing import event
from tallystick.core.errors import BadInput
from tallystick.invoice.documents.html import document_html
from tallystick.invoice.documents.issue import Issue, Party, bill_to_party, seller_party, template_of
from tallystick.invoice.documents.locales import Writer, plain
from tallystick.invoice.documents.view import View, document_view
from tallystick.invoice.model import FORMAT, Invoice


class Page(HTMLParser):
    """The file's tags and what a reader sees of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def view_of(invoice: Invoice, language: str | None = None) -> View:
    return document_view(invoice, dataclasses.replace(ISSUE, language=language))


def test_a_page_names_number_dates_parties_and_the_sum() -> None:
    view = view_of(usage())
    assert dict(view["facts"]) == {
        "Invoice number": "ACME-2026-000017",
        "Invoice date": "November 2, 2026",
        "Due date": "November 16, 2026",
        "Billing month": "October 2026",
        "Plan": "enterprise",
        "Purchase order": "PO-7781",
    }
    assert view["summary"] == {"label": "Total due", "amount": "$128.64", "note": "by November 16, 2026"}
    assert (view["seller"]["name"], view["bill_to"]["name"]) == ("Acme Analytics Inc.", "Globex Köln GmbH & Co. KG")
    assert view["pay"]["reference"] == "ACME-2026-000017"
    evidence = dict(view["evidence"])
    assert evidence["Digest"] == usage().digest
    assert evidence["Requests"] == "3, in ledger entries 1 to 3"
    assert evidence["Issued"] == "ledger entry 1042, 2026-11-02T00:00:00Z"


def test_tiers_are_rows_that_add_up_to_their_line() -> None:
    (tokens_in, tokens_out) = view_of(usage())["groups"][0]["lines"]
    assert (tokens_in["title"], tokens_in["quantity"], tokens_in["amount"]) == ("Input tokens", "12,234,567", "90.64")
    assert [list(row.values()) for row in tokens_in["rows"]] == [
        ["First 1,000,000", "1,000,000", "10.00 per 1,000,000", "10.00"],
        ["Above 1,000,000", "11,234,567", "7.00 per 1,000,000", "78.641969"],
        ["Fee for reaching this tier", "", "", "2.00"],
    ]
    assert [row["label"] for row in tokens_out["rows"]] == [
        "All of it at the price of tier 2",
        "Fee for reaching this tier",
    ]


def test_packages_and_shares_of_cost_are_said_in_words() -> None:
    pro = view_of(invoice_of("pro", event("r1", meters={"tokens_in": 1_000, "tool_calls": 27})))
    (line,) = [one for one in pro["groups"][0]["lines"] if one["title"] == "Tool calls"]
    assert ["3 × 10", "0.80 per package", "2.40"] in [list(row.values())[1:] for row in line["rows"]]
    resale = view_of(invoice_of("resale", event("r1", meters={"tokens_in": 1_000_000})))
    (cost,) = resale["groups"][0]["lines"]
    assert (cost["quantity"], cost["price"]) == ("cost 0.15", "× 1.3")


def test_an_adjusted_tier_of_many_is_not_said_to_price_all_of_them() -> None:
    view = view_of(with_adjustments(usage(), now_quantity="1015"))
    assert [row["label"] for line in view["groups"][1]["lines"] for row in line["rows"]] == [
        "As billed before: first 15",
        "As it is now: what exceeds tier 1",
    ]


def test_an_adjustment_says_what_was_billed_and_what_it_is_now() -> None:
    view = view_of(with_adjustments(usage()))
    own, late = view["groups"]
    assert (own["title"], late["title"]) == ("October 2026", "Adjustment of September 2026")
    assert [list(row.values()) for line in late["lines"] for row in line["rows"]] == [
        ["As billed before: first 15", "15", "10.00 each", "-150.00"],
        ["As it is now: all of it at the price of tier 2", "16", "5.00 each", "80.00"],
    ]
    assert view["totals"] == [
        {"label": "October 2026", "amount": "10.00"},
        {"label": "Adjustment of September 2026", "amount": "-70.00"},
    ]
    assert view["total"] == {"label": "Total, in your favour", "amount": "-$60.00"}
    assert view["summary"]["label"] == "In your favour"
    assert view["pay"] == {"lines": [], "reference": ""}
    assert "Due date" not in dict(view["facts"])


def test_the_statement_of_credits_adds_up() -> None:
    rows = view_of(with_wallet(usage()))["wallet"]
    amounts = [float(amount.replace(",", "")) for _, amount in rows]
    assert sum(amounts[:-1]) == amounts[-1] == 3020
    assert rows[-1][0] == "Credits at the end, of them 20 reserved"


def test_a_draft_has_no_number_and_asks_for_no_money() -> None:
    draft = document_view(usage(), Issue(bill_to=bill_to_party("globex", None), how_to_pay=("IBAN 1",)))
    assert (draft["stamp"], draft["number"]) == ("DRAFT", "")
    assert draft["pay"]["reference"] == ""
    assert "IBAN 1" not in json.dumps(draft)
    assert Page(document_html(draft)).text.count("DRAFT") == 1
    assert view_of(usage())["stamp"] == ""
    test = document_view(usage(), dataclasses.replace(ISSUE, is_test=True))
    assert (test["stamp"], test["pay"]["lines"]) == (
        "TEST",
        ["This is the invoice of a test account: no money is due."],
    )


@pytest.mark.parametrize(
    ("language", "amount", "day", "number"),
    [
        (None, "$1,234,567.50", "November 2, 2026", "1,234,567.000001"),
        ("de-DE", "1.234.567,50\xa0$", "2. November 2026", "1.234.567,000001"),
        ("en-IN", "$12,34,567.50", "2 November 2026", "12,34,567.000001"),
        ("fr", "1\u202f234\u202f567,50\xa0$US", "2 novembre 2026", "1\u202f234\u202f567,000001"),
        ("ja-JP", "$1,234,567.50", "2026年11月2日", "1,234,567.000001"),
        ("xx-nowhere", "$1,234,567.50", "November 2, 2026", "1,234,567.000001"),
    ],
)
def test_numbers_and_dates_are_written_as_their_reader_does(
    language: str | None, amount: str, day: str, number: str
) -> None:
    writer = Writer(language)
    assert writer.usd("1234567.50") == amount
    assert writer.day(datetime(2026, 11, 2, tzinfo=UTC).date()) == day
    assert writer.number("1234567.000001") == number


def test_no_digit_is_lost_and_no_fraction_is_taken_for_exact() -> None:
    digits = "9" * 60 + "." + "1" * 40
    assert Writer("en-US").number(digits).replace(",", "") == digits
    assert Writer("de").amount("170/31") == "≈ 5,483871"
    assert Writer("en").amount("-0.1") == "-0.10"


def test_text_from_outside_stays_text_on_the_page() -> None:
    issue = dataclasses.replace(ISSUE, bill_to=Party(HOSTILE, (HOSTILE, "A" * 300)), purchase_order=HOSTILE)
    issue = dataclasses.replace(issue, seller=Party(HOSTILE), how_to_pay=(HOSTILE,))
    page = Page(document_html(document_view(usage(), issue)))
    assert page.open == []
    assert {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe", "a", "form"} == set()
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) == 5


def test_the_page_can_be_read_aloud() -> None:
    page = Page(document_html(view_of(usage())))
    assert ("html", {"lang": "en", "data-template": "invoice/1"}) in page.tags
    headers = [attributes.get("scope") for tag, attributes in page.tags if tag == "th"]
    assert set(headers) == {"col", "row"}
    assert [tag for tag, _ in page.tags].count("h1") == 1
    assert "http" not in document_html(view_of(usage()))


def test_what_steers_a_page_is_taken_out() -> None:
    assert plain("a\u202eb\x00\r\n c\x1b[31m \u2066d\ud800") == "ab c[31m d"
    assert plain("e\u0301") == "é"


def test_every_text_of_the_view_is_in_the_html() -> None:
    for invoice in (usage(), with_adjustments(usage()), with_wallet(usage())):
        view = view_of(invoice)
        seen = Page(document_html(view)).text
        for group in view["groups"]:
            assert all(
                text in seen for line in group["lines"] for text in (line["title"], line["amount"], *line["notes"])
            )
        assert all(value in seen for row in view["wallet"] + view["evidence"] + view["facts"] for value in row)


def test_a_share_of_the_month_is_said() -> None:
    invoice = usage()
    (section,) = invoice.sections
    shared = structs.replace(invoice, sections=(structs.replace(section, days=14),), lines=(BASE_FEE,))
    assert view_of(shared)["groups"][0]["lines"][0]["notes"] == ["for 14 of the month's 31 days"]


def test_characters_that_no_font_has_are_told_of() -> None:
    assert view_of(usage())["unshown"] is False
    issue = dataclasses.replace(ISSUE, bill_to=Party("株式会社"))
    assert document_view(usage(), issue)["unshown"] is True
    readable = dataclasses.replace(ISSUE, bill_to=Party("Привет Ελλάδα שלום مرحبا Việt Հայ"))
    assert document_view(usage(), readable)["unshown"] is False


def test_an_invoice_keeps_the_template_that_it_was_issued_with() -> None:
    assert template_of(FORMAT, ISSUE.issued_at) == template_of(FORMAT, None) == "invoice/1"
    with pytest.raises(BadInput) as refused:
        template_of("tallystick/invoice/v999", None)
    assert refused.value.code == "invalid_invoice_document"


def test_parties_are_as_contract_and_profile_say() -> None:
    assert seller_party(None) is None
    seller = {"name": "Acme", "address": ["1 Street"], "tax_id": "T1", "registration": "R2", "email": "e@acme.example"}
    assert seller_party(seller) == Party("Acme", ("1 Street", "Tax id T1", "Registration R2", "e@acme.example"))
    profile = {"name": "Globex", "address": ["2 Road"], "tax_id": "T3"}
    assert bill_to_party("globex", profile) == Party("Globex", ("2 Road", "Tax id T3", "Account globex"))
    assert re.fullmatch("globex", bill_to_party("globex", None).name)
