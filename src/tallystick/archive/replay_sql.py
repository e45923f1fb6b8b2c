"""The SQL of a replay: where the entries of a case lie, and what entries add up to.

Texts here are made of column names and numbers of this code base; names and paths are quoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from tallystick.archive.replay_cases import Case
from tallystick.usage.meters import PROMPT_METERS

_CASE_COLUMNS = (*Case._fields[:-1],)
_MINUTE = "((epoch_us({time}) // 60000000) % 1440)"


class Scan(NamedTuple):
    """Block files with the same meters, and the conditions under which an entry of theirs is wanted."""

    files: tuple[Path, ...]
    meters: tuple[str, ...]
    conditions: tuple[str, ...]


def quoted(name: str) -> str:
    """An identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text."""
    return "'" + value.replace("'", "''") + "'"


def quantity(meter: str) -> str:
    """The column of what events counted."""
    return quoted(f"quantity.{meter}")


def amount(meter: str) -> str:
    """The column of what lines cost."""
    return quoted(f"amount.{meter}")


def entries_view(scans: Sequence[Scan], meters: Sequence[str]) -> str:
    """`entries`: the wanted rows of all files, with all meters, and where each row stands."""
    parts = []
    for scan in scans:
        lacking = [meter for meter in meters if meter not in scan.meters]
        zeros = "".join(f", 0::bigint as {quantity(one)}, 0::bigint as {amount(one)}" for one in lacking)
        files = ", ".join(literal(str(path)) for path in scan.files)
        where = f" where {' and '.join(scan.conditions)}" if scan.conditions else ""
        parts.append(f"select *{zeros} from read_parquet([{files}], filename = true, file_row_number = true){where}")
    return f"create or replace temp view entries as {' union all by name '.join(parts)}"


# ── rows in doubt ───────────────────────────────────────────────────────────────────────────────────────────────────

DOUBT_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        *((name, pa.string()) for name in _CASE_COLUMNS),
        ("stated", pa.bool_()),
        *((name, pa.list_(pa.int64())) for name in ("time_edges", "prompt_edges", "minute_edges")),
    ]
)
"""Cases in doubt: which, and where their prices may change."""


def _placed(meters: Sequence[str]) -> str:
    """The rows of the cases in `doubt`, each with the region that it lies in."""

    def place(edges: str, value: str) -> str:
        return f"len(list_filter(doubt.{edges}, lambda edge: edge <= {value}))"

    minute = _MINUTE.format(time="e.time")
    prompt = " + ".join(quantity(meter) for meter in meters if meter in PROMPT_METERS) or "0::bigint"
    same = " and ".join(f"e.{name} is not distinct from doubt.{name}" for name in _CASE_COLUMNS)
    return f"""
select doubt.id, {place("time_edges", "epoch_us(e.time)")} as time_place,
       {place("prompt_edges", "e.prompt")} as prompt_place, {place("minute_edges", minute)} as minute_place,
       epoch_us(e.time) as time_us, e.prompt, {minute} as minute_of_day, e.filename, e.file_row_number
from (select *, {prompt} as prompt from entries where model in (select model from doubt)) as e
join doubt on {same} and (e.provider_cost_pico is not null) = doubt.stated"""


def regions(meters: Sequence[str]) -> str:
    """How many entries of the cases in `doubt` lie in each region, and where."""
    return f"""
select id, time_place, prompt_place, minute_place, min(time_us), max(time_us), min(prompt), max(prompt),
       min(minute_of_day), max(minute_of_day)
from ({_placed(meters)}) group by all"""


def rows_of_regions(meters: Sequence[str]) -> str:
    """Where the rows stand that lie in the regions of `wrong`."""
    return f"""
select filename, file_row_number from ({_placed(meters)})
semi join wrong using (id, time_place, prompt_place, minute_place)"""
