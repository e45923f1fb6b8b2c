"""Tables read back as they were written, and no spreadsheet takes a cell of text for a formula."""

from __future__ import annotations

import csv
import io
import re

from hypothesis import given
from hypothesis import strategies as st

from tallystick.invoice.tables import csv_row, text_cell

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=20)
risky = st.builds(
    lambda start, rest: start + rest, st.sampled_from(["=", "+", "-", "@", "\t", "\r", "'", "'='"]), texts
)


@given(st.lists(st.one_of(texts, risky), min_size=1, max_size=6))
def test_any_row_reads_back_as_it_was_written(cells: list[str]) -> None:
    written = csv_row(cells)
    assert written.endswith("\r\n")
    assert next(csv.reader(io.StringIO(written, newline=""))) == cells or cells == [""]


@given(st.one_of(texts, risky))
def test_no_cell_of_text_begins_like_a_formula_and_nothing_is_lost(text: str) -> None:
    cell = text_cell(text)
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
    assert (cell[1:] if re.match(r"''*[=+\-@\t\r\n＝＋－＠]", cell) else cell) == text
