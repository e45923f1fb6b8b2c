"""Replay finds whatever was changed behind the application's back, and names it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conftest import NOW
from invoicing import CONTRACT, apply, event, record, subscribe
from journal_helpers import append_in_the_past, query
from journal_helpers import tamper as tamper_with
from sealed_ledger import copyable, reopened
from tallystick.app.close_month import close_month
from tallystick.app.orgs import set_subscription
from tallystick.app.replay import DIFFERENCES_MAX, ReplayReport, replay_invoice
from tallystick.app.reprice import reprice
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput
from tallystick.ledger.encoding import event_fingerprint
from tallystick.ledger.entry import Entry, entry_leaf

Tamper = Callable[..., ReplayReport]


@pytest.fixture(scope="module")
def month(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A closed month of five requests, one of them corrected."""

    def fill(runtime: Runtime) -> None:
        apply(runtime)
        subscribe(runtime, "globex")
        record(runtime, [event(f"r{number}") for number in range(1, 5)])
        append_in_the_past(runtime, [event("r5", provider="anthropic", model="claude-sonnet-4-5")])
        reprice(runtime)
        (result,) = close_month(runtime, "2026-10")
        assert result.status == "closed"
        assert replay_invoice(runtime, "globex/2026-10").identical

    folder = tmp_path_factory.mktemp("month")
    with copyable(server_url, folder, NOW, fill) as name:
        yield name, folder


@pytest.fixture
def closed(server_url: str, month: tuple[str, Path], tmp_path: Path) -> Iterator[Runtime]:
    """That month, to be changed."""
    with reopened(server_url, *month, tmp_path) as opened:
        yield opened


@pytest.fixture
def tamper(closed: Runtime) -> Tamper:
    """A way to change it as no application can."""

    def change(*statements: str) -> ReplayReport:
        tamper_with(closed.database.url, *statements)
        return replay_invoice(closed, "globex/2026-10")

    return change


ENTRY = "update ledger_entries set {} where request_id = 'r2'"
CORRECTION = "update ledger_entries set {} where kind = 'correction'"
DEARER = "update contract_versions set source_text = replace(source_text, '0.10', '0.20')"
FORGED = "update invoices set document = replace(document, '10.00', '11.00')"


@pytest.mark.parametrize(
    ("change", "where", "field"),
    [
        (ENTRY.format("meter_quantities = '{999, 100}'"), "request r2, entry 2", "leaf"),
        (ENTRY.format("meter_quantities = '{999, 100}'"), "request r2, entry 2", "fingerprint of the fact"),
        (ENTRY.format("meter_quantities = '{999, 100}'"), "request r2, entry 2", "cost line 1 (tokens_in), quantity"),
        (ENTRY.format("meter_quantities = '{999, 100}'"), "the invoice", "lines[1].quantity"),
        (ENTRY.format("user_id = 'somebody-else'"), "request r2, entry 2", "fingerprint of the fact"),
        (ENTRY.format("user_id = null"), "request r2, entry 2", "fingerprint of the fact"),
        (ENTRY.format("attributes = '{\"a\": \"b\"}'"), "request r2, entry 2", "fingerprint of the fact"),
        (ENTRY.format("salt = sha256('')"), "request r2, entry 2", "fingerprint of the fact"),
        (
            ENTRY.format("user_id = null, session_id = null, attributes = null, salt = null"),
            "entry 2",
            "personal data",
        ),
        (ENTRY.format("environment = 'development'"), "the invoice", "lines[1].quantity"),
        (ENTRY.format("outcome = 'failure'"), "the invoice", "not_charged.events[0]"),
        (ENTRY.format("model = 'gpt-4o'"), "request r2, entry 2", "cost_pico"),
        (ENTRY.format("time = '2026-10-10T00:00:00Z'"), "request r2, entry 2", "leaf"),
        (ENTRY.format("time = '2026-09-10T00:00:00Z'"), "request r2, entry 2", "leaf"),
        (ENTRY.format("time = '2026-09-10T00:00:00Z'"), "the invoice", "ledger.events"),
        (ENTRY.format("time = '2026-12-01', time_max = '2026-12-01'"), "the invoice", "ledger.events"),
        (ENTRY.format("time_max = '2026-10-20T00:00:00Z'"), "request r2, entry 2", "leaf"),
        (ENTRY.format("request_id = 'rx'"), "request rx, entry 2", "leaf"),
        (ENTRY.format("meter_names = meter_names || '{zz}'"), "request r2, entry 2", "meters"),
        (ENTRY.format("meter_quantities = meter_quantities || '{7}'"), "request r2, entry 2", "meters"),
        (ENTRY.format("meter_quantities = '{1000, null}'"), "request r2, entry 2", "meters"),
        (
            ENTRY.format("meter_names = meter_names || meter_names, meter_quantities = '{1000, 100, 1000, 100}'"),
            "request r2, entry 2",
            "meters",
        ),
        (ENTRY.format("meter_names = array[meter_names, meter_names]"), "request r2, entry 2", "meters"),
        (ENTRY.format("recorded_at = recorded_at - interval '1 day'"), "request r2, entry 2", "leaf"),
        (ENTRY.format("price_context = '[]'"), "request r2, entry 2", "price_context"),
        (ENTRY.format("price_context = '[7]'"), "request r2, entry 2", "price_context"),
        (ENTRY.format("price_context = '{\"service_tier\": 5}'"), "request r2, entry 2", "price_context"),
        (ENTRY.format("attributes = '{\"a\": 5}'"), "request r2, entry 2", "attributes"),
        (ENTRY.format("line_meters = line_meters || '{zz}'"), "request r2, entry 2", "cost line 3"),
        (ENTRY.format("line_quantities = line_quantities || '{7}'"), "request r2, entry 2", "cost line 3"),
        (ENTRY.format("line_price_pico = line_price_pico || '{7}'"), "request r2, entry 2", "cost line 3"),
        (ENTRY.format("line_per = line_per || '{7}'"), "request r2, entry 2", "cost line 3"),
        (ENTRY.format("line_amount_pico = line_amount_pico || '{7}'"), "request r2, entry 2", "cost line 3"),
        (ENTRY.format("line_amount_pico = '{}'"), "request r2, entry 2", "cost line 1 (tokens_in), amount_pico"),
        (ENTRY.format("fingerprint = sha256('')"), "request r2, entry 2", "fingerprint of the fact"),
        (ENTRY.format("leaf = sha256('')"), "request r2, entry 2", "leaf"),
        (ENTRY.format("leaf = sha256('')"), "the invoice", "ledger.root"),
        (ENTRY.format("cost_pico = cost_pico + 1"), "request r2, entry 2", "cost_pico"),
        (ENTRY.format("line_amount_pico[2] = 0"), "request r2, entry 2", "cost line 2 (tokens_out), amount_pico"),
        (ENTRY.format("line_price_pico[1] = 1"), "request r2, entry 2", "cost line 1 (tokens_in), price_pico"),
        (ENTRY.format("line_meters[1] = 'requests'"), "request r2, entry 2", "cost line 1"),
        (ENTRY.format("rate_version = 'genai-prices-0.0.1'"), "the invoice", "rates[1]"),
        (ENTRY.format("rate_version = 'of my own'"), "request r2, entry 2", "cost"),
        (ENTRY.format("status = 'estimated'"), "request r2, entry 2", "status"),
        (CORRECTION.format("recorded_at = recorded_at + interval '1 s'"), "request r5, entry 5, correction 6", "leaf"),
        (CORRECTION.format("refers_to_seq = 4"), "request r5, entry 4, correction 6", "leaf"),
        (CORRECTION.format("request_id = 'r4'"), "request r5, entry 5, correction 6", "request_id"),
        (CORRECTION.format("cost_pico = 1"), "request r5, entry 5, correction 6", "cost_pico"),
        ("delete from ledger_entries where kind = 'correction'", "entry 6", "ledger"),
        ("delete from ledger_entries where request_id = 'r2'", "entry 2", "ledger"),
        ("delete from ledger_entries where request_id = 'r2'", "the invoice", "ledger.entries_sha256"),
        ("delete from ledger_entries where request_id = 'r2'", "the invoice", "ledger.tree_size"),
        ("delete from ledger_entries where seq < 4", "entries 1 to 3", "ledger"),
        ("delete from ledger_entries where seq < 4", "the invoice", "ledger.first_seq"),
        (DEARER, "the stored contract", "sha256"),
        (DEARER, "the invoice", "lines[1].exact_usd"),
        ("update contract_versions set source_text = 'gone'", "the invoice", "contract and plan"),
        ("update contract_versions set version = '9'", "version 1 of contract acme", "the contract"),
        ("update subscriptions set plan = 'enterprise'", "the invoice", "contract.plan"),
        ("delete from subscriptions", "the invoice", "contract and plan"),
        ("update invoices set total_cents = 1", "the stored invoice", "column total_cents"),
        ("update invoices set digest = 'sha256:00'", "the stored invoice", "column digest"),
        ("update invoices set plan = 'enterprise'", "the stored invoice", "column plan"),
        (FORGED, "the invoice", "lines[0].amount_usd"),
        (FORGED, "the stored invoice", "digest of the document"),
        ("update invoices set document = document || ' '", "the stored invoice", "form of the document"),
        ("update invoices set through_seq = 4", "the stored invoice", "column through_seq"),
        ("update rate_versions set card = card || '\\x20' where ordinal = 1", "rate card ", "sha256"),
    ],
)  # fmt: skip
def test_a_change_from_outside_is_named(tamper: Tamper, change: str, where: str, field: str) -> None:
    report = tamper(change)
    assert not report.identical
    found = [(one.where, one.field) for one in report.differences]
    assert any(at.startswith(where) and what == field for at, what in found), found


@pytest.mark.parametrize(
    "forgery",
    ["replace(document, '10.00', 'ten')", "replace(document, '10.00', '1/0')", "'[]'", "'{'", "document || 'x'"],
)
def test_what_is_no_invoice_at_all_is_refused_with_its_reason(tamper: Tamper, forgery: str) -> None:
    with pytest.raises(BadInput) as refused:
        tamper(f"update invoices set document = {forgery}")
    assert refused.value.code == "invalid_invoice_document"


def test_a_count_that_is_no_json_integer_is_refused_with_its_reason(tamper: Tamper) -> None:
    with pytest.raises(BadInput) as refused:
        tamper("update invoices set document = replace(document, '\"events\":5', '\"events\":99999999999999999999')")
    assert refused.value.code == "invalid_invoice_document"


def test_a_forger_who_keeps_every_entry_in_step_is_still_found_by_the_root(tamper: Tamper, closed: Runtime) -> None:
    # The fact, its fingerprint, its cost and its leaf are all changed so that each agrees with the others.
    forged = event("r2", meters={"tokens_in": 2000, "tokens_out": 100})
    cost = closed.card.price_event(forged)
    ((*columns,),) = query(closed, "select * from ledger_entries where request_id = 'r2'")
    entry = Entry(*columns)
    assert entry.salt is not None
    entry = entry._replace(
        meter_quantities=[2000, 100],
        line_quantities=[2000, 100],
        line_amount_pico=[line.amount_pico for line in cost.lines],
        cost_pico=cost.total_pico,
        fingerprint=event_fingerprint(forged, entry.salt),
    )
    amounts = ", ".join(str(line.amount_pico) for line in cost.lines)
    report = tamper(
        ENTRY.format(
            f"meter_quantities = '{{2000, 100}}', fingerprint = '\\x{(entry.fingerprint or b'').hex()}', "
            f"cost_pico = {cost.total_pico}, line_quantities = '{{2000, 100}}', line_amount_pico = '{{{amounts}}}', "
            f"leaf = '\\x{entry_leaf(entry).hex()}'"
        )
    )
    assert {one.where for one in report.differences} == {"the invoice"}
    fields = {one.field for one in report.differences}
    assert {"lines[1].quantity", "ledger.entries_sha256", "ledger.root", "digest"} <= fields


def test_an_erased_person_is_told_and_hinders_no_replay(tamper: Tamper, closed: Runtime) -> None:
    report = tamper("select erase_person('globex', 'user-1')")
    assert report.identical
    assert (report.events, report.erased) == (5, 5)
    assert report.as_dict()["erased"] == 5


def test_what_comes_later_moves_nothing(tamper: Tamper, closed: Runtime) -> None:
    record(closed, [event("late")])
    newer = CONTRACT.replace('version: "1"', 'version: "2"').replace("2026-01-01", "2026-09-01")
    apply(closed, newer.replace('base: "10"', 'base: "99"'))  # effective in the past, applied after the close
    began = datetime(2026, 9, 15, tzinfo=UTC)
    set_subscription(closed, "globex", contract="acme", plan="enterprise", effective_from=began)
    report = replay_invoice(closed, "globex/2026-10")
    assert report.identical
    assert report.events == 5
    assert report.recomputed_digest == report.digest


def test_a_report_spells_out_some_differences_and_counts_them_all(runtime: Runtime, database_url: str) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    record(runtime, [event(f"r{number}") for number in range(DIFFERENCES_MAX + 50)])
    close_month(runtime, "2026-10")
    tamper_with(database_url, "update ledger_entries set cost_pico = cost_pico + 1")
    report = replay_invoice(runtime, "globex/2026-10")
    # Of each request its leaf and its cost; of the invoice, the hash over the entries and with it the digest.
    assert report.difference_count == 2 * (DIFFERENCES_MAX + 50) + 2
    assert len(report.differences) == DIFFERENCES_MAX
    assert not report.identical
