"""One pass over a row group: which cases its entries are of, where they lie, and whose amounts cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tallystick.archive.lines import FLAT_METERS_MAX, Int64s
from tallystick.archive.replay_amounts import contradicted
from tallystick.archive.replay_cases import Cases
from tallystick.archive.replay_keys import Scratch
from tallystick.archive.replay_table import CASE_TEXTS, CaseTable, Words, pricing_of, table_of_cases
from tallystick.archive.row_group import RowGroup


class Scanned(NamedTuple):
    """What a row group holds.

    Attributes:
        entries: how many wanted entries.
        irregular: how many of them have no pricing.
        cases: the cases of the others.
        contradicted: where in the file those stand whose amounts do not follow from quantities and prices.
    """

    entries: int
    irregular: int
    cases: CaseTable | None
    contradicted: Int64s


def scan_columns(meters: Sequence[str]) -> list[str]:
    """The columns that `scan` needs."""
    flat = [f"{what}.{meter}" for meter in meters for what in ("quantity", "amount")]
    return [*CASE_TEXTS, "kind", "time", "cost_pico", "provider_cost_pico", *flat]


def scan(
    rows: RowGroup,
    meters: Sequence[str],
    cases: Cases,
    words: Words,
    minimum_meters: frozenset[str],
    scratch: Scratch,
) -> Scanned:
    """Look at the wanted rows of a row group.

    Args:
        rows: with `scan_columns(meters)`.
        meters: the meters that the block has columns for.
        cases: knows pricings, and where prices change.
        words: gives the texts of cases their numbers.
        minimum_meters: the meters for which a request may be billed for more than it used.
        scratch: memory to compute in, of this thread.

    Raises:
        ValueError: the rows are none of a block.
    """
    pricing = rows.texts("pricing")
    regular = None if int(pricing.codes.min(initial=0)) >= 0 else np.flatnonzero(pricing.codes >= 0)
    irregular = 0 if regular is None else rows.count - len(regular)
    if irregular == rows.count:
        return Scanned(rows.count, irregular, None, np.empty(0, dtype=np.int64))
    if len(meters) > FLAT_METERS_MAX:
        raise ValueError("a block has columns for more meters than a block may have")
    pricings = [pricing_of(text, minimum_meters) for text in pricing.texts]
    if any(not one.meters <= set(meters) for one in pricings):
        raise ValueError("a pricing names a meter that the block does not have")
    bad = contradicted(rows, pricing, meters, scratch)
    if regular is not None:
        bad[pricing.codes < 0] = False
    table = table_of_cases(rows, regular, meters, cases, words, pricings, scratch)
    return Scanned(rows.count, irregular, table, rows.places(bad))
