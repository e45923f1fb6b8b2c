"""What a person reads: the page, the sentences, the tables; and the words of a difference."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest

from invoicing import CONTRACT, correction_entry, event, month_terms, usage_entry
from tallystick.app.cards import load_card_history
from tallystick.contract.loader import load_contract
from tallystick.core.errors import BadInput, NotFound
from tallystick.invoice.build import build_invoice
from tallystick.invoice.compare import Difference, document_differences
from tallystick.invoice.digest import entries_sha256
from tallystick.invoice.explain import explain
from tallystick.invoice.facts import Corrections, StoredFact, recheck
from tallystick.invoice.line_rows import LINE_COLUMNS, lines_csv
from tallystick.invoice.model import Invoice, LedgerPin, parse_invoice
from tallystick.invoice.request_rows import request_header, request_row
from tallystick.invoice.tables import csv_table
from tallystick.invoice.terms import Terms
from tallystick.invoice.text import WIDTH, invoice_text
from tallystick.invoice.usage import PeriodFacts, PeriodSums
from tallystick.ledger.merkle import root
from tallystick.rates.card import CardHistory
from tallystick.rates.model import Cost
from tallystick.usage.event import UsageEvent

NOW = datetime(2026, 11, 2, tzinfo=UTC)


@cache
def cards() -> CardHistory:
    return load_card_history()


def terms_of(plan: str, contract: str = CONTRACT) -> Terms:
    return month_terms(load_contract(contract, "acme.yaml"), (plan, None))


def invoice_of(plan: str, *events: UsageEvent, contract: str = CONTRACT) -> Invoice:
    sums, leaves = PeriodSums(), []
    for seq, one in enumerate(events, start=1):
        cost = cards().latest.price_event(one)
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
    return build_invoice(terms_of(plan, contract), PeriodFacts((sums, PeriodSums()), pin))


def stored(one: UsageEvent, version: str | None = None, corrected: str | None = None) -> StoredFact:
    def cost(name: str | None) -> Cost:
        return (cards().latest if name is None else cards().at(name)).price_event(one)

    correction = None if corrected is None else correction_entry(one, cost(corrected), 2, 1, recorded_at=NOW)
    return StoredFact(usage_entry(one, cost(version), recorded_at=NOW), correction)


def sentences(invoice: Invoice) -> list[str]:
    told = explain(invoice)
    lines = [sentence for line in told.lines for sentence in line.sentences]
    return [*told.terms, *lines, *told.total, *told.not_charged, *told.evidence]


def test_the_arithmetic_of_each_tier_is_written_out() -> None:
    invoice = invoice_of("enterprise", event("r1", meters={"tokens_in": 1_234_567, "tokens_out": 500_001}))
    told = sentences(invoice)
    assert "Tier 1, up to 1,000,000: 1,000,000 × 10.00 per 1,000,000 = 10.00 USD." in told
    assert "Tier 2, open-ended: 234,567 × 7.00 per 1,000,000 + 2.00 flat = 3.641969 USD." in told
    assert "Together that is 13.641969 USD." in told
    assert "Tier 2, open-ended: 500,001 × 22.00 per 1,000,000 + 5.00 flat = 16.000022 USD." in told
    assert (
        "Exactly 13.641969 USD, rounded once, half to even, to 13.64 USD; the residue of 0.001969 USD is kept on the "
        "invoice." in told
    )
    assert "Plan enterprise commits to at least 100.00 USD for each period, base fee included." in told
    assert "Its other lines come to 29.64 USD: 100.00 - 29.64 = 70.36 USD is missing, and is charged here." in told


def test_packages_free_units_shares_of_cost_and_meters_priced_together_are_explained() -> None:
    meters = {"tool_calls": 27, "tokens_out": 4, "reasoning_tokens": 6}
    told = sentences(invoice_of("pro", event("r1", meters=meters)))
    assert "Tier 1, up to 5: 5 free." in told
    assert "Tier 2, open-ended: 3 packages of 10 × 0.80 = 2.40 USD." in told
    assert "The line is exactly 2.40 USD; nothing was rounded." in told
    assert "4 tokens_out in 1 request and 6 reasoning_tokens in 1 request were charged here." in told
    assert "The plan's price for tokens_out includes them all, together 10." in told
    told = sentences(invoice_of("resale", event("r1", meters={"tokens_in": 1_000_000})))
    assert "Our cost of 0.15 USD × 1.3 = 0.195 USD." in told


def test_what_was_not_charged_is_said_with_its_reason() -> None:
    told = sentences(
        invoice_of(
            "pro",
            event("r1", meters={"tokens_in": 1, "cache_read_tokens": 1}),
            event("r2", outcome="failure", meters={"tokens_in": 2}),
            event("r3", environment="development"),
            event("r4", environment="development", outcome="failure"),
        )
    )
    assert (
        "1 cache_read_tokens in 1 request was metered and not charged: plan pro has no price for cache_read_tokens."
        in told
    )
    assert "1 request in production failed and was not charged (2 tokens_in)." in told
    assert (
        "2 requests in development were not charged: the contract does not charge that environment "
        "(2,000 tokens_in and 200 tokens_out)." in told
    )
    assert "Every request of the period, and every meter in it, was charged." in sentences(invoice_of("pro"))


@pytest.mark.parametrize("plan", ["pro", "enterprise", "resale"])
def test_the_page_fits_its_width_and_says_what_is_due_and_why(plan: str) -> None:
    huge = {"tokens_in": 10**12, "tokens_out": 10**12, "tool_calls": 10**12, "cache_write_1h_tokens": 10**12}
    invoice = invoice_of(plan, event("r1", meters=huge), event("r2", environment="development"))
    page = invoice_text(invoice)
    for line in page.splitlines():
        assert len(line) <= WIDTH, line
        assert line == line.rstrip()
    ledger = invoice.ledger
    hashes = (invoice.digest, ledger.entries_sha256, ledger.root, invoice.contract.sha256)
    for said in (invoice.invoice_id, "globex", *hashes):
        assert said in page
    assert f"{invoice.total_cents // 100:,}.{invoice.total_cents % 100:02d}" in page
    assert "In development, which is not charged: 1 request" in page
    assert all(line.amount_usd.split(".")[0] in page.replace(",", "") for line in invoice.lines)


def test_the_page_fits_its_width_also_with_the_longest_of_names() -> None:
    meter, environment = "m" * 63, "e" * 512
    declared = CONTRACT.replace(
        "pages_reviewed: {unit: page}", f"pages_reviewed: {{unit: page}}\n  {meter}: {{unit: x}}"
    )
    priced = declared.replace("includes: [reasoning_tokens]}\n      tool", f"includes: [{meter}]}}\n      tool")
    huge = {meter: 10**12, "tokens_out": 10**12}
    failed = event("r2", environment=environment, outcome="failure", meters=huge)
    for contract in (declared, priced):
        invoice = invoice_of("pro", event("r1", meters=huge), failed, contract=contract)
        page = invoice_text(invoice)
        assert max(map(len, page.splitlines())) <= WIDTH
        assert meter in page.replace("\n", "").replace(" ", "")
        assert environment in page.replace("\n", "").replace(" ", "")


def test_the_page_holds_nothing_of_our_own_cost() -> None:
    invoice = invoice_of("pro", event("r1", meters={"tokens_in": 98_765_432}))
    assert invoice.internal.cost_usd not in invoice_text(invoice)


def test_the_lines_are_a_table_of_exact_decimals() -> None:
    invoice = invoice_of("enterprise", event("r1", meters={"tokens_in": 1_234_567}))
    header, *rows = csv.reader(io.StringIO("".join(lines_csv(invoice)), newline=""))
    assert tuple(header) == LINE_COLUMNS
    first = dict(zip(header, rows[0], strict=True))
    assert (first["meter"], first["quantity"], first["exact_usd"], first["amount_usd"], first["residue_usd"]) == (
        "tokens_in",
        "1234567",
        "13.641969",
        "13.64",
        "0.001969",
    )
    assert len(rows) == len(invoice.lines)


def test_a_request_is_one_row_with_every_tag_and_text_that_is_no_formula() -> None:
    one = event(
        "=1+1",
        user_id="@me",
        session_id="-5",
        feature='say "hi", twice',
        api_key_id="+key",
        latency_ms=12,
        meters={"tokens_in": 1000, "tokens_out": 0},
        attributes={"b": "2", "a": "=1"},
        price_context={},
    )
    meters = ["tokens_in", "tokens_out", "tool_calls"]
    header = request_header(meters, with_cost=True)
    row = dict(zip(header, request_row(stored(one), meters, terms_of("pro"), with_cost=True), strict=True))
    assert row["request_id"] == "'=1+1"
    assert (row["user_id"], row["session_id"], row["api_key_id"]) == ("'@me", "'-5", "'+key")
    assert row["feature"] == 'say "hi", twice'
    assert (row["tokens_in_quantity"], row["tokens_out_quantity"], row["tool_calls_quantity"]) == ("1000", "0", "")
    assert (row["cost_usd"], row["tokens_in_cost_usd"], row["tool_calls_cost_usd"]) == ("0.00015", "0.00015", "")
    assert row["attributes"] == '{"a":"=1","b":"2"}'
    assert row["charged"] == "yes"
    text = "".join(csv_table(header, [tuple(row.values())]))
    assert next(iter(csv.DictReader(io.StringIO(text, newline="")))) == row
    assert not any("cost" in name for name in request_header(meters, with_cost=False))


def test_a_negative_cost_stays_a_number_and_an_unknown_one_an_empty_cell() -> None:
    fact = stored(event("r1", environment="development"))
    less = StoredFact(fact.entry._replace(cost_pico=-1), None)
    header = request_header(["tokens_in"], with_cost=True)
    row = dict(zip(header, request_row(less, ["tokens_in"], terms_of("pro"), with_cost=True), strict=True))
    assert (row["cost_usd"], row["charged"]) == ("-0.000000000001", "no: environment")
    unknown = stored(event("r2", model="a-model-that-no-card-knows", outcome="failure"))
    row = dict(zip(header, request_row(unknown, ["tokens_in"], terms_of("pro"), with_cost=True), strict=True))
    assert (row["cost_usd"], row["tokens_in_cost_usd"], row["cost_status"]) == ("", "", "unpriced")
    assert row["charged"] == "no: failure"
    assert row["unpriced_reason"]


def test_a_row_of_another_length_than_the_header_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells under 1 columns"):
        list(csv_table(["a"], [["1", "2"]]))


def test_an_untouched_fact_rechecks_without_a_difference_also_when_corrected() -> None:
    one = event("r1", provider="anthropic", model="claude-sonnet-4-5")
    first, latest = cards().versions[0].name, cards().versions[-1].name
    for fact in (stored(one), stored(one, first), stored(one, first, latest)):
        again = recheck(fact, cards().at)
        assert again.differences == ()
        assert again.leaf == fact.entry.leaf
        assert again.event == one
        assert again.cost is not None
        assert again.cost.total_pico == fact.priced.cost_pico


def test_an_unknown_card_is_a_difference() -> None:
    fact = stored(event("r1"))
    unknown = recheck(StoredFact(fact.entry._replace(rate_version="x"), None), cards().at)
    assert unknown.cost is None
    assert [one.field for one in unknown.differences] == ["leaf", "cost"]
    with pytest.raises(NotFound):
        cards().at("x")


def test_an_erased_request_still_has_its_leaf_and_its_cost() -> None:
    entry = stored(event("r1", attributes={"region": "eu"})).entry
    erased = StoredFact(entry._replace(user_id=None, session_id=None, attributes=None, salt=None), None)
    again = recheck(erased, cards().at)
    assert (again.differences, again.leaf) == ((), entry.leaf)
    assert erased.is_erased
    header = request_header(["tokens_in"], with_cost=True)
    row = dict(zip(header, request_row(erased, ["tokens_in"], terms_of("pro"), with_cost=True), strict=True))
    assert (row["user_id"], row["session_id"], row["attributes"]) == ("", "", "")
    assert (row["tokens_in_quantity"], row["cost_usd"]) == ("1000", "0.00021")
    # Half an erasure is none: what is left no longer opens the fingerprint.
    for kept in ({"user_id": None}, {"session_id": None}, {"attributes": None}, {"salt": bytes(16)}):
        (difference,) = recheck(StoredFact(entry._replace(**kept), None), cards().at).differences
        assert difference.field == "fingerprint of the fact"


def test_each_column_of_an_entry_is_seen_by_its_recheck() -> None:
    one = event("r1", attributes={"a": "b"}, price_context={"service_tier": "batch"}, latency_ms=3)
    entry = stored(one).entry
    changes: dict[str, object] = {
        "kind": "correction",
        "outcome": "failure",
        "usage_status": "partial",
        "status": "partial",
        "price_context": {"service_tier": "flex"},
        "attributes": {"a": "c"},
        "salt": bytes(16),
        "fingerprint": bytes(32),
        "leaf": bytes(32),
        "line_models": ["m", None],
        "provider_cost_pico": 7,
    }
    assert set(entry._fields) >= set(changes)
    for name in set(entry._fields) - {"refers_to_seq", "body"}:  # null in every row of usage: the database sees to it
        value = getattr(entry, name)
        if name in changes:
            changed = changes[name]
        elif isinstance(value, list):
            changed = [*value[:-1], "other" if isinstance(value[-1], str) else 987_654_321]
        elif isinstance(value, datetime):
            changed = value - timedelta(microseconds=1)
        else:
            changed = 987_654_321 if isinstance(value, int) else "other"
        assert recheck(StoredFact(entry._replace(**{name: changed}), None), cards().at).differences, name


def test_corrections_are_found_in_step_and_those_that_refer_to_nothing_are_told() -> None:
    one, latest = event("r1"), cards().latest
    corrections = [correction_entry(one, latest.price_event(one), 10 + seq, seq) for seq in (1, 3, 4, 8)]
    found = Corrections(corrections)
    assert [(found.of(seq) or corrections[0]).seq for seq in (1, 2, 4)] == [11, 11, 14]
    assert found.of(5) is None
    assert [entry.refers_to_seq for entry in found.finish()] == [3, 8]


def test_documents_are_compared_member_by_member() -> None:
    before = {"a": [1, {"b": "x"}], "c": None, "d": 1}
    after = {"a": [1, {"b": "y"}, 3], "c": None, "d": True, "e": "new"}
    assert list(document_differences(before, before)) == []
    assert list(document_differences(before, after)) == [
        Difference("the invoice", "a[1].b", "x", "y"),
        Difference("the invoice", "a[2]", None, "3"),
        Difference("the invoice", "d", "1", "True"),
        Difference("the invoice", "e", None, "new"),
    ]


def test_a_document_that_is_no_invoice_is_refused_with_its_reason() -> None:
    for text in ("", "{}", "[1", '{"format": 1}', "\udc80".encode(errors="surrogatepass")):
        with pytest.raises(BadInput) as refused:
            parse_invoice(text)
        assert refused.value.code == "invalid_invoice_document"


def test_a_line_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(BadInput) as refused:
        invoice_of("pro").line(7)
    assert refused.value.next_step == "choose one of 1"


def test_a_plan_that_the_contract_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(BadInput) as refused:
        invoice_of("gold")
    assert refused.value.code == "unknown_plan"
    assert "pro, enterprise, resale" in refused.value.next_step


def test_a_share_of_a_cost_that_is_not_known_is_never_taken_for_nothing() -> None:
    with pytest.raises(BadInput) as refused:
        invoice_of("resale", event("r1"), event("r2", model="a-model-that-no-card-knows"))
    assert refused.value.code == "cost_unknown"
    # Where it is not charged, it does not matter.
    invoice_of("resale", event("r1"), event("r2", model="a-model-that-no-card-knows", outcome="failure"))
