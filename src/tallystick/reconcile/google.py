"""Google Cloud's billing export, as BigQuery gives it: JSON Lines, JSON or CSV, nested or with dotted names.

Its rows name an SKU and no model, so that a row is of a model only where the operator says which SKU is of which one.
Credits are no part of the cost that is compared: they are given to the account, and not for a call.
"""

from __future__ import annotations

from collections.abc import Mapping

from tallystick.reconcile.files import Table
from tallystick.reconcile.model import DAY, Export, ExportRow
from tallystick.reconcile.openai import unknown_currency
from tallystick.reconcile.other import CLASSES, rows_of
from tallystick.reconcile.values import Row, bad_value, bucket, instant, is_absent, text, unread, usd

_KNOWN = frozenset((
    "billing_account_id", "cost", "cost_at_list", "cost_type", "credits", "currency", "currency_conversion_rate",
    "export_time", "invoice", "invoice.month", "labels", "location", "location.country", "location.location",
    "location.region", "price", "project", "project.id", "project.name", "project.number", "service",
    "service.description", "service.id", "sku", "sku.description", "sku.id", "system_labels", "tags", "usage",
    "usage.amount", "usage.amount_in_pricing_units", "usage.pricing_unit", "usage.unit", "usage_end_time",
    "usage_start_time",
))  # fmt: skip


def is_google(table: Table) -> bool:
    """Whether it is such an export."""
    rows = rows_of(table)
    return bool(rows) and "usage_start_time" in rows[0][1] and "cost" in rows[0][1]


def read_google(table: Table, name: str) -> Export:
    """A billing export of Google Cloud.

    Raises:
        BadInput: `invalid_export`, `bucket_too_long`, `unknown_currency`.
    """
    export = Export(CLASSES)
    rows = rows_of(table)
    credited = 0
    for place, row in rows:
        start = instant(row.get("usage_start_time"), place, "usage_start_time")
        until = row.get("usage_end_time")
        time = bucket(start, start + DAY if is_absent(until) else instant(until, place, "usage_end_time"), place)
        item = _member(row, "sku", "description") or _member(row, "sku", "id")
        if item is None:
            raise bad_value(place, "sku.description", None, "name of an SKU")
        currency = text(row, "currency") or "USD"
        if currency.upper() != "USD":
            raise unknown_currency(currency, place)
        if is_absent(row.get("cost")):
            raise bad_value(place, "cost", None, "amount")
        cost_pico, step_pico = usd(row["cost"], place, "cost")
        credited += row.get("credits") not in (None, "", [], "[]")
        export.buckets.add(time)
        project = _member(row, "project", "id")
        export.rows.append(ExportRow(*time, place, None, item, {}, None, cost_pico, step_pico, project=project))
    # A bucket is of what was used in it; the whole of a day that has any is what the export is of.
    for day in export.days():
        start = instant(day.isoformat(), name, "usage_start_time")
        export.buckets.add((start, start + DAY))
    if credited:
        export.notes.append(f"{name}: {credited} rows have credits, which are no part of what is compared")
    names = unread([row for _, row in rows], _KNOWN)
    if names:
        export.notes.append(f"{name}: nobody reads its {', '.join(names)}")
    return export


def _member(row: Row, name: str, inner: str) -> str | None:
    value = row.get(name)
    if isinstance(value, Mapping):
        return text(value, inner)
    return text(row, f"{name}.{inner}", f"{name}_{inner}", name)
