"""Any other provider: a CSV or JSON of a row for each day, model and meter.

    date,model,meter,quantity,cost_usd,requests,project,api_key

`date` and `model` are mandatory; a meter is one of ours, and a row may state its quantity, its cost, or both. A row
without a meter states the model's calls, its whole cost, or both.
"""

from __future__ import annotations

from fractions import Fraction
from types import MappingProxyType

from tallystick.core.errors import BadInput
from tallystick.reconcile.files import Table
from tallystick.reconcile.model import DAY, Classes, Export, ExportRow, day_start
from tallystick.reconcile.values import Row, bad_value, day, is_absent, text, unread, usd, whole
from tallystick.usage.meters import METERS

CLASSES: Classes = MappingProxyType({name: (name,) for name in METERS})

_KNOWN = frozenset(("date", "model", "meter", "quantity", "cost_usd", "requests", "project", "api_key"))


def read_other(table: Table, name: str) -> Export:
    """An export in the form above, whoever the provider is.

    Raises:
        BadInput: `invalid_export`, `unknown_export_meter`.
    """
    export = Export(CLASSES)
    rows = rows_of(table)
    for place, row in rows:
        _take(export, row, place)
    names = unread([row for _, row in rows], _KNOWN)
    if names:
        export.notes.append(f"{name}: nobody reads its {', '.join(names)}")
    return export


def rows_of(table: Table) -> list[tuple[str, Row]]:
    """The rows of a file whose rows say of what time they are, each with its place."""
    if table.lines is not None:
        return table.lines
    return [placed for one in table.buckets for placed in one.results]


def _take(export: Export, row: Row, place: str) -> None:
    start = day_start(day(row.get("date"), place, "date"))
    export.buckets.add((start, start + DAY))
    model, meter = text(row, "model"), text(row, "meter")
    if model is None:
        raise bad_value(place, "model", None, "name of a model")
    if meter is not None and meter not in METERS:
        raise BadInput(
            "unknown_export_meter",
            f"{meter!r:.60} is none of the meters that a provider bills",
            next_step="name one of those in docs/reconcile.md, or leave the row out",
            where=place,
        )
    used, calls, cost = whole(row, "quantity", place), whole(row, "requests", place), row.get("cost_usd")
    costs = not is_absent(cost)
    if (used is not None and meter is None) or (used is None and calls is None and not costs):
        raise bad_value(place, "quantity", row.get("quantity"), "quantity of a meter that is named")
    cost_pico, step_pico = usd(cost, place, "cost_usd") if costs else (None, Fraction(0))
    export.rows.append(
        ExportRow(
            start,
            start + DAY,
            place,
            model,
            None,
            {} if meter is None or used is None else {meter: used},
            calls,
            cost_pico,
            step_pico,
            meter,
            text(row, "project"),
            text(row, "api_key"),
        )
    )
