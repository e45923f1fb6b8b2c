"""The fingerprints that entries make, a batch of Arrow columns at a time: what ties personal data to the leaf."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from tallystick.archive.columns import PERSONAL_COLUMNS
from tallystick.archive.leaves import SLICE_ROWS, batch_entries, core_texts, slice_leaves
from tallystick.ledger.encoding import OPERATION_PREFIX, PREFIX, canonical_json
from tallystick.ledger.entry import entry_fingerprint
from tallystick.ledger.operation_entry import body_parts


def leaves_and_fingerprints(batch: pa.RecordBatch) -> tuple[list[bytes], list[bytes | None]]:
    """The leaf of every entry, and its fingerprint: None for corrections, and where personal data was erased.

    Both are computed from the other columns (`archive.leaves`, `ledger.encoding`). Where a fingerprint comes out other
    than the row has it, the definition in `ledger.entry` decides; b"" stands for a row that cannot make one.
    """
    leaves: list[bytes] = []
    fingerprints: list[bytes | None] = []
    for start in range(0, batch.num_rows, SLICE_ROWS):
        of_slice = _of_slice(batch.slice(start, SLICE_ROWS))
        leaves += of_slice[0]
        fingerprints += of_slice[1]
    return leaves, fingerprints


def _of_slice(batch: pa.RecordBatch) -> tuple[list[bytes], list[bytes | None]]:
    usage = pc.equal(batch.column("kind"), "usage")
    core = core_texts(batch)
    leaves = slice_leaves(batch, core if usage.true_count == batch.num_rows else None)
    stored = batch.column("fingerprint").to_pylist()
    salts = batch.column("salt").to_pylist()
    rows = zip(salts, core.cast(pa.binary()).to_pylist(), _personal(batch).to_pylist(), strict=True)
    found: list[bytes | None] = [
        None if salt is None or kept is None else sha256(b"%b%b%b\n%b" % (PREFIX, salt, kept, personal)).digest()
        for salt, kept, personal in rows
    ]
    if usage.true_count < batch.num_rows:
        for place, fingerprint in _of_operations(batch):
            found[place] = fingerprint
    for place, fingerprint in enumerate(found):
        if fingerprint != stored[place]:
            found[place] = _defined(batch.slice(place, 1))
    return leaves, found


def _of_operations(batch: pa.RecordBatch) -> Iterator[tuple[int, bytes | None]]:
    """Place and fingerprint of the operations that have a salt."""
    mask = pc.and_(pc.is_valid(batch.column("body")), pc.is_valid(batch.column("salt")))
    places = pc.indices_nonzero(mask)
    if not len(places):
        return
    rows = batch.take(places)
    columns = [
        places.to_pylist(),
        *(rows.column(name).to_pylist() for name in ("salt", "body")),
        *(_each(rows.column(name)).cast(pa.binary()).to_pylist() for name in ("kind", "org_id", "request_id")),
        _told(rows).cast(pa.binary()).to_pylist(),
    ]
    for place, salt, body, kind, org_id, request_id, told in zip(*columns, strict=True):
        try:
            request = body_parts(body).request
        except (ValueError, UnicodeError):  # msgspec's own are ValueErrors
            yield place, None
            continue
        core = b'{"kind":%b,"org_id":%b,"request":%b,"request_id":%b}' % (kind, org_id, request, request_id)
        yield place, sha256(b"%b%b%b\n{%b}" % (OPERATION_PREFIX, salt, core, told[:-1])).digest()


def _told(batch: pa.RecordBatch) -> pa.Array:
    """The members of the personal part that are there, a comma after each."""
    attributes = _each(batch.column("attributes"), '"attributes":', ",")
    others = [
        pc.fill_null(pc.binary_join_element_wise(f'"{name}":', _each(batch.column(name)), ",", ""), "")
        for name in ("session_id", "user_id")
    ]
    return pc.binary_join_element_wise(attributes, *others, "")


def personal_is_gone(batch: pa.RecordBatch) -> pa.Array:
    """For each entry, whether nothing is left of its personal data."""
    gone = pc.is_null(batch.column(PERSONAL_COLUMNS[0]))
    for name in PERSONAL_COLUMNS[1:]:
        gone = pc.and_(gone, pc.is_null(batch.column(name)))
    return gone


def _personal(batch: pa.RecordBatch) -> pa.Array:
    attributes = _each(batch.column("attributes"), '"attributes":', ",")
    session, user = _each(batch.column("session_id")), _each(batch.column("user_id"))
    joined = pc.binary_join_element_wise("{", attributes, '"session_id":', session, ',"user_id":', user, "}", "")
    return pc.fill_null(joined, "").cast(pa.binary())


def _each(column: pa.Array, before: str = "", after: str = "") -> pa.Array:
    """The canonical JSON of each text, or of each JSON table that has members; made once for each distinct one."""
    coded = column.dictionary_encode()
    made: list[str | None] = []
    for text in coded.dictionary.to_pylist():
        if not before:
            made.append(msgspec.json.encode(text).decode())
            continue
        table = msgspec.json.decode(text)
        made.append(before + canonical_json(table).decode() + after if table else "")
    texts = pa.array(made, pa.string()).take(coded.indices)
    return pc.fill_null(texts, "") if before else texts


def _defined(row: pa.RecordBatch) -> bytes | None:
    try:
        (entry,) = batch_entries(row)
        return entry_fingerprint(entry)
    except (ValueError, TypeError, AttributeError, OverflowError):
        return b""
