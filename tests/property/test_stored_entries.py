"""What is stored is what was sent and priced: every column, leaf, transfer and balance, whatever the events are."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from examples import examples
from journal_helpers import query
from tallystick.app.runtime import Runtime
from tallystick.core.money import PICO_MAX
from tallystick.journal.copy_rows import COLUMNS, END, SIGNATURE, entry_row
from tallystick.ledger.accounts import PROVIDER_PAYABLE, PROVIDER_USAGE_COST, USD
from tallystick.ledger.entry import (
    ENTRY_COLUMNS,
    Entry,
    entry_event,
    entry_fingerprint,
    entry_leaf,
    entry_lines,
)
from tallystick.ledger.receipt import Receipt
from tallystick.rates.steps import line_columns
from tallystick.usage.event import UsageEvent
from tallystick.usage.meters import METERS

_runs = itertools.count(1)
_WITH_DATABASE = settings(
    max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
_START = datetime(2026, 10, 1, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=8)
TABLE = st.dictionaries(TEXT, TEXT, max_size=2)
MODELS = st.sampled_from(
    [
        ("openai", "gpt-4o"),
        ("anthropic", "claude-sonnet-4-5"),  # has a cliff
        ("google", "gemini-2.5-pro"),
        ("deepseek", "deepseek-chat"),
        ("openai", "never-heard-of"),
        (None, "tool/x"),
        (None, "gpt-4o"),
        ("perplexity", "sonar"),  # has a fee for each request
    ]
)
QUANTITIES = st.sampled_from([0, 0, 1, 7, 199_999, 200_001, 10**7]) | st.integers(0, 10**6)
METER_TABLE = st.dictionaries(st.sampled_from([*sorted(METERS), "own_meter"]), QUANTITIES, max_size=5)
CONTEXTS = st.sampled_from([{}, {}, {"service_tier": "batch"}, {"service_tier": "default"}, {"speed": "fast"}])


@st.composite
def events(draw: st.DrawFn) -> UsageEvent:
    provider, model = draw(MODELS)
    return UsageEvent(
        org_id=draw(st.sampled_from(["a", "b", "\U0001f600"])),
        request_id=draw(TEXT),
        time=_START + timedelta(microseconds=draw(st.integers(0, 30 * 86_400_000_000))),
        user_id=draw(TEXT),
        session_id=draw(TEXT),
        feature=draw(TEXT),
        environment=draw(TEXT),
        provider=provider,
        model=model,
        meters=draw(METER_TABLE),
        api_key_id=draw(st.none() | TEXT),
        action=draw(st.none() | TEXT),
        latency_ms=draw(st.none() | st.integers(0, 10**9)),
        outcome=draw(st.sampled_from(["success", "empty", "failure"])),
        usage_status=draw(st.sampled_from(["final", "partial", "estimated"])),
        price_context=draw(CONTEXTS),
        provider_cost_pico=draw(st.none() | st.none() | st.integers(0, PICO_MAX // 100)),
        payer=draw(st.sampled_from(["seller", "seller", "customer"])),
        attributes=draw(TABLE),
    )


def entries(runtime: Runtime, orgs: list[str]) -> list[Entry]:
    columns = ", ".join(ENTRY_COLUMNS)
    rows = query(runtime, f"select {columns} from ledger_entries where org_id = any(%s) order by org_id, seq", orgs)
    return [Entry(*row) for row in rows]


def append(runtime: Runtime, batches: list[list[UsageEvent]]) -> tuple[list[str], list[UsageEvent], list[Receipt]]:
    """Store the batches for orgs that no other example has: the orgs, all events, and their receipts."""
    run = next(_runs)
    renamed = [[structs.replace(event, org_id=f"{run}-{event.org_id}") for event in batch] for batch in batches]
    receipts = [receipt for batch in renamed for receipt in runtime.append(batch)]
    return (
        [f"{run}-{org}" for org in ("a", "b", "\U0001f600")],
        [event for batch in renamed for event in batch],
        receipts,
    )


@given(st.lists(st.lists(events(), min_size=1, max_size=6), min_size=1, max_size=3))
@_WITH_DATABASE
def test_every_column_is_what_was_sent_and_priced_and_every_leaf_what_the_row_makes(
    runtime: Runtime, batches: list[list[UsageEvent]]
) -> None:
    orgs, sent, receipts = append(runtime, batches)
    first = {(event.org_id, event.request_id): event for event in reversed(sent)}
    accepted = {(one.org_id, one.seq): one for one in receipts if one.status == "accepted"}
    stored = entries(runtime, orgs)
    assert {(entry.org_id, entry.request_id) for entry in stored} == set(first)
    latest: dict[str, datetime] = {}
    for entry in stored:
        event, receipt = first[entry.org_id, entry.request_id], accepted[entry.org_id, entry.seq]
        assert entry_event(entry) == event
        cost = runtime.card.price_event(event)
        assert entry_lines(entry) == cost.lines
        assert (entry.cost_pico, entry.status, entry.reason) == (cost.total_pico, cost.status, cost.reason)
        assert entry.rate_version == cost.rate_version
        assert (entry.kind, entry.recorded_at, entry.refers_to_seq) == ("usage", runtime.clock(), None)
        assert list(entry.meter_names or ()) == sorted(event.meters)
        latest[entry.org_id] = max(latest.get(entry.org_id, entry.time), entry.time)
        assert entry.time_max == latest[entry.org_id]
        assert entry_leaf(entry) == entry.leaf == bytes.fromhex(receipt.leaf or "")
        assert entry_fingerprint(entry) == entry.fingerprint == bytes.fromhex(receipt.fingerprint)


@given(st.lists(st.lists(events(), min_size=1, max_size=6), min_size=1, max_size=3))
@_WITH_DATABASE
def test_transfers_cover_every_entry_once_and_balances_are_their_sums(
    runtime: Runtime, batches: list[list[UsageEvent]]
) -> None:
    orgs, _, _ = append(runtime, batches)
    for org in orgs:
        costs = {entry.seq: (entry.cost_pico or 0) if entry.payer is None else 0 for entry in entries(runtime, [org])}
        transfers = query(
            runtime,
            "select first_seq, seq, debit_account, credit_account, asset, amount_pico from transfers"
            " where org_id = %s order by seq",
            org,
        )
        covered: list[int] = []
        for first_seq, seq, debit, credit, asset, amount in transfers:
            assert (debit, credit, asset) == (PROVIDER_USAGE_COST, PROVIDER_PAYABLE, USD)
            assert amount == sum(costs[one] for one in range(first_seq, seq + 1))
            covered += range(first_seq, seq + 1)
        assert covered == list(range(1, len(costs) + 1))
        total = sum(costs.values())
        balances = query(
            runtime,
            "select account, debit_pico, credit_pico from account_balances where org_id = %s order by account",
            org,
        )
        assert balances == ([(PROVIDER_PAYABLE, 0, total), (PROVIDER_USAGE_COST, total, 0)] if costs else [])


@given(st.lists(events(), min_size=1, max_size=5, unique_by=lambda event: (event.org_id, event.request_id)))
@_WITH_DATABASE
def test_rows_encoded_the_plain_way_are_those_that_were_written(runtime: Runtime, batch: list[UsageEvent]) -> None:
    orgs, _, _ = append(runtime, [batch])
    stored = entries(runtime, orgs)
    with psycopg.connect(runtime.database.url) as connection:
        connection.execute("create temporary table copied (like ledger_entries)")
        with (
            connection.cursor() as cursor,
            cursor.copy(f"copy copied ({', '.join(COLUMNS)}) from stdin (format binary)") as stream,
        ):
            stream.write(b"".join([SIGNATURE, *map(entry_row, stored), END]))
        rows = connection.execute(
            f"select {', '.join(ENTRY_COLUMNS)} from copied order by org_id, seq", binary=True
        ).fetchall()
    assert [Entry(*row) for row in rows] == stored


@given(events())
@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_price_in_columns_is_the_price(runtime: Runtime, event: UsageEvent) -> None:
    cost, row = runtime.card.price_event(event), runtime.card.price_row(event)
    columns = (row.meters, row.quantities, row.price_pico, row.per, row.amount_pico)
    assert tuple(map(tuple, columns)) == line_columns(cost.lines)[:5]
    assert row.models == line_columns(cost.lines)[5]
    assert (row.total_pico, row.status) == (cost.total_pico, cost.status)
    assert (row.rate_version, row.reason) == (cost.rate_version, cost.reason)
