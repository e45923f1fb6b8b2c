"""The columns of a ledger entry as Arrow has them, in the order of the table, and which go to which file of a block."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_INSTANT = pa.timestamp("us", tz="UTC")
_TEXTS, _INTEGERS = pa.list_(pa.string()), pa.list_(pa.int64())

ENTRY_SCHEMA = pa.schema(
    [
        ("org_id", pa.string()),
        ("seq", pa.int64()),
        ("kind", pa.string()),
        ("request_id", pa.string()),
        ("time", _INSTANT),
        ("time_max", _INSTANT),
        ("recorded_at", _INSTANT),
        ("feature", pa.string()),
        ("environment", pa.string()),
        ("provider", pa.string()),
        ("model", pa.string()),
        ("api_key_id", pa.string()),
        ("action", pa.string()),
        ("latency_ms", pa.int64()),
        ("outcome", pa.string()),
        ("usage_status", pa.string()),
        ("meter_names", _TEXTS),
        ("meter_quantities", _INTEGERS),
        ("price_context", pa.string()),
        ("provider_cost_pico", pa.int64()),
        ("payer", pa.string()),
        ("user_id", pa.string()),
        ("session_id", pa.string()),
        ("attributes", pa.string()),
        ("salt", pa.binary()),
        ("fingerprint", pa.binary()),
        ("rate_version", pa.string()),
        ("status", pa.string()),
        ("cost_pico", pa.int64()),
        ("line_meters", _TEXTS),
        ("line_quantities", _INTEGERS),
        ("line_price_pico", _INTEGERS),
        ("line_per", _INTEGERS),
        ("line_amount_pico", _INTEGERS),
        ("line_models", _TEXTS),
        ("refers_to_seq", pa.int64()),
        ("reason", pa.string()),
        ("body", pa.string()),
        ("leaf", pa.binary()),
    ]
)
"""Every column of `ledger_entries`, in its order. Columns of jsonb are JSON text, instants UTC microseconds."""

PERSONAL_COLUMNS = ("user_id", "session_id", "attributes", "salt")
"""What may be erased; it stands in the people file and never in the block itself."""

LIST_COLUMNS = (
    "meter_names",
    "meter_quantities",
    "line_meters",
    "line_quantities",
    "line_price_pico",
    "line_per",
    "line_amount_pico",
    "line_models",
)
"""Meters and cost lines as parallel arrays; a block has them as flat columns, see `archive.lines`."""

PLAIN_COLUMNS = tuple(name for name in ENTRY_SCHEMA.names if name not in (*PERSONAL_COLUMNS, *LIST_COLUMNS))
"""What a block stores as the table has it."""

REPEATING_COLUMNS = (
    "org_id",
    "kind",
    "feature",
    "environment",
    "provider",
    "model",
    "api_key_id",
    "action",
    "outcome",
    "usage_status",
    "payer",
    "price_context",
    "rate_version",
    "status",
    "reason",
)
"""Text that is the same in many rows: stored, and read, through a dictionary."""


def conform(table: pa.Table) -> pa.Table:
    """The table with exactly the columns and types of `ENTRY_SCHEMA`, as ADBC reads them or as DuckDB gives them."""
    return pa.Table.from_arrays(
        [_cast(table.column(field.name), field.type) for field in ENTRY_SCHEMA], schema=ENTRY_SCHEMA
    )


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):  # jsonb comes as arrow.json
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], type=column.type.storage_type)
    return column if column.type.equals(kind) else pc.cast(column, kind)
