"""Leaves made column by column are those that the definition gives, for every entry that there can be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from tallystick.archive import fingerprints, leaves
from tallystick.archive.columns import ENTRY_SCHEMA
from tallystick.archive.fingerprints import leaves_and_fingerprints
from tallystick.archive.leaves import batch_entries, batch_leaves
from tallystick.ledger.encoding import canonical_json
from tallystick.ledger.entry import FREE, OPERATION_KINDS, Entry, entry_fingerprint, entry_leaf

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
MAYBE = st.none() | TEXT
BIGINT = st.integers(-(2**63), 2**63 - 1)
INSTANT = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(lambda value: value.replace(tzinfo=UTC)) | (
    st.integers(0, 10**9).map(lambda seconds: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
)
TABLE = st.dictionaries(TEXT, TEXT, max_size=3)
# Made once: a strategy that is made for each draw is looked over for each.
SALT, HASH = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)
NUMBER, LATER = st.integers(0, 2**53), st.integers(2, 2**53)
METER_SETS = st.dictionaries(TEXT, NUMBER, max_size=4)
MAYBE_BIGINT, MAYBE_NUMBER = st.none() | BIGINT, st.none() | NUMBER
MAYBE_FIRST, MAYBE_CUSTOMER = st.none() | st.just(1), st.none() | st.just("customer")
LISTS = {
    (of, size): st.lists(of, min_size=size, max_size=size)
    for of in (TEXT, MAYBE, BIGINT, MAYBE_BIGINT)
    for size in range(5)
}


@st.composite
def operations(draw: st.DrawFn) -> dict[str, Any]:
    at = draw(INSTANT)
    request, result = draw(TABLE), draw(TABLE)
    return {
        **dict.fromkeys(ENTRY_SCHEMA.names),
        **FREE,
        **{name: draw(MAYBE) for name in ("feature", "environment", "provider", "model", "api_key_id", "action")},
        **{name: draw(MAYBE) for name in ("user_id", "session_id")},
        "org_id": draw(TEXT),
        "seq": draw(LATER),
        "kind": draw(st.sampled_from(sorted(OPERATION_KINDS))),
        "request_id": draw(TEXT),
        "time": at,
        "time_max": draw(INSTANT),
        "recorded_at": at,
        "attributes": canonical_json(draw(TABLE)).decode(),
        "salt": draw(SALT),
        "fingerprint": draw(HASH),
        "rate_version": draw(TEXT),
        "refers_to_seq": draw(MAYBE_FIRST),
        "body": canonical_json({"request": request, "result": result}).decode(),
        "leaf": bytes(32),
    }


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    usage = draw(st.booleans())
    if not usage and draw(st.booleans()):
        return draw(operations())
    meters = draw(METER_SETS)
    lines = draw(st.integers(0, 4))

    def each(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(LISTS[values, lines])

    status = draw(st.sampled_from(["final", "unpriced"]))
    row: dict[str, Any] = dict.fromkeys(ENTRY_SCHEMA.names)
    row |= {
        "org_id": draw(TEXT),
        "seq": draw(st.integers(1, 2**53)),
        "kind": "usage" if usage else "correction",
        "request_id": draw(TEXT),
        "time": draw(INSTANT),
        "time_max": draw(INSTANT),
        "recorded_at": draw(INSTANT),
        "rate_version": draw(TEXT),
        "status": status,
        "cost_pico": None if status == "unpriced" else draw(BIGINT),
        "line_meters": each(TEXT),
        "line_quantities": each(BIGINT),
        "line_price_pico": each(MAYBE_BIGINT),
        "line_per": each(MAYBE_BIGINT),
        "line_amount_pico": each(MAYBE_BIGINT),
        "line_models": (draw(st.booleans()) and each(MAYBE)) or None,
        "reason": draw(MAYBE),
        "leaf": bytes(32),
        "payer": draw(MAYBE_CUSTOMER),
    }
    if not usage:
        return row | {"refers_to_seq": draw(st.integers(1, 2**53))}
    context = draw(TABLE)
    return row | {
        **{name: draw(TEXT) for name in ("feature", "environment", "model", "user_id", "session_id")},
        **{name: draw(MAYBE) for name in ("provider", "api_key_id", "action")},
        "latency_ms": draw(MAYBE_NUMBER),
        "outcome": draw(st.sampled_from(["success", "failure"])),
        "usage_status": draw(st.sampled_from(["final", "partial", "estimated"])),
        "meter_names": sorted(meters),
        "meter_quantities": [meters[name] for name in sorted(meters)],
        "price_context": canonical_json(context).decode(),
        "provider_cost_pico": draw(MAYBE_BIGINT),
        "fingerprint": draw(HASH),
    }


def batch_of(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=ENTRY_SCHEMA)


def with_leaves(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    defined = [entry_leaf(entry) for entry in batch_entries(batch_of(rows))]
    return batch_of([row | {"leaf": leaf} for row, leaf in zip(rows, defined, strict=True)])


@settings(max_examples=examples(30))
@given(st.lists(rows(), min_size=1, max_size=12))
def test_leaves_by_columns_are_those_of_the_definition(many: list[dict[str, Any]]) -> None:
    batch = with_leaves(many)

    assert batch_leaves(batch) == batch.column("leaf").to_pylist()


@settings(max_examples=examples(30))
@given(st.lists(rows(), min_size=1, max_size=12))
def test_usage_and_operations_need_the_definition_for_no_row(many: list[dict[str, Any]]) -> None:
    batch = with_leaves([row for row in many if row["kind"] != "correction"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaves, "entry_leaf", lambda _entry: pytest.fail("a row was left to the definition"))
        assert batch_leaves(batch) == batch.column("leaf").to_pylist()


@settings(max_examples=examples(30))
@given(st.lists(rows() | operations(), min_size=1, max_size=12))
def test_fingerprints_by_columns_are_those_of_the_definition(many: list[dict[str, Any]]) -> None:
    erased = {"user_id": None, "session_id": None, "attributes": None, "salt": None}
    told = [row | ({} if row["salt"] or row["kind"] == "correction" else erased) for row in many]
    defined = [entry_fingerprint(entry) for entry in batch_entries(batch_of(told))]
    batch = with_leaves(
        [row | {"fingerprint": one or row["fingerprint"]} for row, one in zip(told, defined, strict=True)]
    )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprints, "_defined", lambda row: None)  # where nothing or another comes out, it is asked
        assert leaves_and_fingerprints(batch) == (batch.column("leaf").to_pylist(), defined)


@settings(max_examples=examples(40))
@given(st.lists(rows(), min_size=1, max_size=6), st.data())
def test_a_changed_column_gives_another_leaf(many: list[dict[str, Any]], data: st.DataObject) -> None:
    batch = with_leaves(many)
    place = data.draw(st.integers(0, len(many) - 1))
    entry = list(batch_entries(batch))[place]
    name = data.draw(st.sampled_from([name for name in Entry._fields if _counts(name, entry)]))
    changed = batch.to_pylist()
    changed[place][name] = _other(changed[place][name])

    computed = batch_leaves(batch_of(changed))

    assert [one == kept for one, kept in zip(computed, batch.column("leaf").to_pylist(), strict=True)] == [
        index != place for index in range(len(many))
    ]


def _counts(name: str, entry: Entry) -> bool:
    """Whether the leaf covers the column, and it has a value that can be another one of its type."""
    if name in ("leaf", "kind", "user_id", "session_id", "attributes", "salt", "price_context", "line_models"):
        return False
    if entry.kind in OPERATION_KINDS and name in FREE:
        return False
    return getattr(entry, name) not in (None, ())


def _other(value: Any) -> Any:
    if isinstance(value, list):
        return [*value[:-1], _other(value[-1])]
    if isinstance(value, datetime):
        return value + timedelta(microseconds=1)
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    if isinstance(value, str):
        return value + "x"
    return 1 if value is None else value - 1 if value > 0 else value + 1
