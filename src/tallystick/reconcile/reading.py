"""Reading the files of one provider into one export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tallystick.core.errors import BadInput
from tallystick.reconcile.anthropic import read_anthropic
from tallystick.reconcile.files import Table, read_table
from tallystick.reconcile.google import is_google, read_google
from tallystick.reconcile.model import Export, ExportRow
from tallystick.reconcile.openai import read_openai
from tallystick.reconcile.other import read_other

GENERIC_COLUMNS = ("date", "model")


def read_export(provider: str, files: Sequence[tuple[str, bytes]], models_of: dict[str, str]) -> Export:
    """The export that these files are together, such as one of usage and one of costs.

    Args:
        provider: its usual name. OpenAI and Anthropic have forms of their own; Google's billing export is known by its
            fields; of any provider the generic form is taken.
        files: each file's name and content.
        models_of: by what a cost is for, as the export words it, the model that it is of.

    Raises:
        BadInput: `invalid_utf8`, `malformed_json`, `duplicate_key`, `invalid_export`, `bucket_too_long`,
            `unknown_currency`, `unknown_export_meter`, `unmatched_item`.
    """
    whole: Export | None = None
    for name, data in files:
        one = _read(provider, read_table(data, name), name)
        if whole is None:
            whole = one
            continue
        if whole.classes is not one.classes:
            raise BadInput(
                "invalid_export",
                "its form is another than that of the files before it",
                next_step="give files of one form at once",
                where=name,
            )
        whole.rows += one.rows
        whole.buckets |= one.buckets
        whole.notes += one.notes
    if whole is None or not whole.buckets:
        raise BadInput(
            "invalid_export", "there is nothing in it", next_step="export a time that has passed", where=files[-1][0]
        )
    whole.rows = [_attributed(row, models_of) for row in whole.rows]
    strange = sorted(set(models_of) - {row.item for row in whole.rows if row.item})
    if strange:
        raise BadInput(
            "unmatched_item",
            f"the export has no item {', '.join(map(repr, strange))}",
            next_step="write items as the export does; --json lists those that are of no model",
            where="--model-of",
        )
    return whole


def _read(provider: str, table: Table, name: str) -> Export:
    rows = table.lines or [placed for one in table.buckets for placed in one.results]
    generic = bool(rows) and all(column in rows[0][1] for column in GENERIC_COLUMNS)
    if provider in ("openai", "azure") and not generic:
        export = read_openai(table, name)
    elif provider == "anthropic" and not generic:
        export = read_anthropic(table, name)
    elif is_google(table):
        export = read_google(table, name)
    else:
        export = read_other(table, name)
    if table.more:
        export.notes.append(f"{name}: its last page says that there are more (has_more), and they are not here")
    return export


def _attributed(row: ExportRow, models_of: dict[str, str]) -> ExportRow:
    model = models_of.get(row.item or "")
    return row if model is None else replace(row, model=model)
