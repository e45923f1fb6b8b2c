"""What no hash of an entry covers, because entries of each kind have it one way only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tallystick.archive.columns import LIST_COLUMNS
from tallystick.ledger.adjustment import ADJUSTMENT
from tallystick.ledger.entry import OPERATION_KINDS

_FACT = (
    "latency_ms",
    "outcome",
    "usage_status",
    "meter_names",
    "meter_quantities",
    "price_context",
    "provider_cost_pico",
)
_SAID = ("feature", "environment", "provider", "model", "api_key_id", "action")
_PERSON = ("user_id", "session_id", "attributes", "salt", "fingerprint")
_NEVER = {
    "usage": ("refers_to_seq", "body"),
    "correction": (*_SAID, *_FACT, *_PERSON, "body"),
    "operation": (*_FACT, "payer", "line_models", "reason"),
}
_ALWAYS = {
    "usage": ("outcome", "usage_status", "price_context", "fingerprint"),
    "correction": ("refers_to_seq",),
    "operation": ("body", "fingerprint"),
}
_EMPTY = tuple(name for name in LIST_COLUMNS if name.startswith("line_") and name != "line_models")
_KINDS = pa.array(sorted(OPERATION_KINDS))


def malformed(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Which rows are not written as entries of their kind are.

    Args:
        batch: the columns of `ENTRY_SCHEMA`.
    """
    kind = batch.column("kind")
    of_kind = {
        "usage": pc.equal(kind, "usage"),
        "correction": pc.equal(kind, "correction"),
        "operation": pc.is_in(kind, value_set=_KINDS),
    }
    wrong = pc.invert(pc.or_(pc.or_(of_kind["usage"], of_kind["correction"]), of_kind["operation"]))
    for name, mask in of_kind.items():
        if not mask.true_count:
            continue
        bad = _not_as(batch, _NEVER[name], _ALWAYS[name])
        if name == "operation":
            bad = pc.or_(bad, _not_free(batch))
        wrong = pc.or_(wrong, pc.and_(mask, bad))
    unsaid = pc.and_(pc.is_valid(batch.column("salt")), pc.is_null(batch.column("attributes")))
    paid = pc.fill_null(pc.not_equal(batch.column("payer"), "customer"), False)
    found: npt.NDArray[np.bool_] = pc.or_(pc.or_(wrong, paid), pc.or_(unsaid, _jumbled(batch))).to_numpy(
        zero_copy_only=False
    )
    return found


def _not_as(batch: pa.RecordBatch, never: tuple[str, ...], always: tuple[str, ...]) -> pa.Array:
    wrong = pa.array(np.zeros(batch.num_rows, dtype=np.bool_))
    for name in never:
        wrong = pc.or_(wrong, pc.is_valid(batch.column(name)))
    for name in always:
        wrong = pc.or_(wrong, pc.is_null(batch.column(name)))
    return wrong


def _not_free(batch: pa.RecordBatch) -> pa.Array:
    """Where something is said of a cost, or of a time other than that of recording (which an adjustment has)."""
    free = pc.and_(pc.equal(batch.column("status"), "final"), pc.equal(batch.column("cost_pico"), 0))
    at_once = pc.equal(batch.column("time"), batch.column("recorded_at"))
    free = pc.and_(free, pc.or_(at_once, pc.equal(batch.column("kind"), ADJUSTMENT)))
    for name in _EMPTY:
        free = pc.and_(free, pc.equal(pc.list_value_length(batch.column(name)), 0))
    return pc.invert(pc.fill_null(free, False))


def _jumbled(batch: pa.RecordBatch) -> pa.Array:
    """Where meters do not stand in the order of their names."""
    names = pc.binary_join(batch.column("meter_names"), ",").dictionary_encode()
    unsorted = [text is not None and text != ",".join(sorted(text.split(","))) for text in names.dictionary.to_pylist()]
    return pc.fill_null(pa.array(unsorted, pa.bool_()).take(names.indices), False)
