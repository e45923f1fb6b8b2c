"""Tables as RFC 4180 text: exact decimals as strings, a stable order of columns, safe to open in a spreadsheet.

A spreadsheet runs a text cell that begins with `=`, `+`, `-`, `@`, a tab or a line end as a formula. Such a
cell gets one single quote in front; so does a cell in which only single quotes stand before such a sign, so
that taking one quote away gives back exactly what was there. Columns of numbers are written as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_MUST_QUOTE = re.compile(r'[",\r\n]')


def text_cell(value: str | None) -> str:
    """A cell of text, which no spreadsheet takes for a formula; None is an empty cell."""
    if value is None:
        return ""
    return f"'{value}" if _FORMULA.match(value) else value


def csv_row(cells: Iterable[str]) -> str:
    """One record, ended by CRLF; cells are quoted only where they must be."""
    return (
        ",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' if _MUST_QUOTE.search(cell) else cell for cell in cells)
        + "\r\n"
    )


def csv_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """The table, record by record; every row has as many cells as the header.

    Raises:
        ValueError: a row that has not.
    """
    yield csv_row(header)
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells under {len(header)} columns")
        yield csv_row(row)
