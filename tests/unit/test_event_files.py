"""A file of events is taken apart whatever its form, and a bad item harms no other."""

from __future__ import annotations

import json
from io import BytesIO

import pytest

from journal_helpers import raw_event
from tallystick.app.event_files import LINE_BYTES_MAX, read_items
from tallystick.core.errors import BadInput

ONE, TWO = raw_event("one"), raw_event("two")
LINE_ONE, LINE_TWO = json.dumps(ONE).encode(), json.dumps(TWO).encode()


def read(content: bytes) -> list[tuple[int | None, object]]:
    """(line, value or error code) of each item."""
    items = read_items(BytesIO(content))
    return [(item.line, item.value.code if isinstance(item.value, BadInput) else item.value) for item in items]


@pytest.mark.parametrize(
    "content",
    [
        LINE_ONE + b"\n" + LINE_TWO,
        LINE_ONE + b"\n" + LINE_TWO + b"\n",
        LINE_ONE + b"\r\n" + LINE_TWO + b"\r\n",
        b"\xef\xbb\xbf" + LINE_ONE + b"\n" + LINE_TWO,
    ],
)
def test_json_lines_are_read_line_by_line(content: bytes) -> None:
    assert read(content) == [(1, ONE), (2, TWO)]


def test_blank_lines_are_skipped_and_still_counted() -> None:
    assert read(b"\n" + LINE_ONE + b"\n  \n" + LINE_TWO) == [(2, ONE), (4, TWO)]


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_item_by_item(indent: int | None) -> None:
    assert read(json.dumps([ONE, TWO], indent=indent).encode()) == [(None, ONE), (None, TWO)]
    assert read(b"  \n[]") == []


def test_one_object_may_stretch_over_several_lines() -> None:
    assert read(json.dumps(ONE, indent=2).encode()) == [(1, ONE)]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b'{"cut": ', "malformed_json"),
        (b"not json", "malformed_json"),
        (b'{"a": NaN}', "malformed_json"),
        (b'{"a": "\xff"}', "invalid_utf8"),
        (b'{"a": "\\ud800"}', "invalid_text"),
        (b'{"a": 1, "a": 2}', "duplicate_key"),
        (b"[" * 100_000, "nested_too_deep"),
        (b'"' + b"x" * LINE_BYTES_MAX + b'"', "line_too_long"),
        (b"{" + b"x" * 5 * LINE_BYTES_MAX, "line_too_long"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_line_is_named_and_its_neighbours_are_read(bad: bytes, code: str, place: int) -> None:
    if place == 0 and bad.startswith(b"["):
        pytest.skip("a file that begins with a bracket is an array")
    lines = [LINE_ONE, LINE_TWO]
    lines.insert(place, bad)
    expected: list[tuple[int | None, object]] = [(1, ONE), (2, TWO)]
    expected.insert(place, (place + 1, code))
    expected = [(number, value) for number, (_, value) in enumerate(expected, 1)]
    assert read(b"\n".join(lines) + b"\n") == expected


def test_lines_after_a_first_one_that_is_an_array_are_read_all_the_same() -> None:
    assert read(b"[1, 2]\n" + LINE_ONE + b"\nbad\n" + LINE_TWO) == [
        (1, [1, 2]), (2, ONE), (3, "malformed_json"), (4, TWO),
    ]  # fmt: skip


def test_a_bad_item_of_an_array_harms_no_other() -> None:
    content = b"[" + LINE_ONE + b', {"a": 1, "a": 2}, {"a": "\\ud800"}, ' + LINE_TWO + b"]"
    assert read(content) == [(None, ONE), (None, "duplicate_key"), (None, "invalid_text"), (None, TWO)]


@pytest.mark.parametrize(
    ("content", "code"), [(b"", "empty_file"), (b"\n \n", "empty_file"), (b"[1, 2", "malformed_json")]
)
def test_a_file_that_cannot_be_taken_apart_is_refused(content: bytes, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(content)
    assert caught.value.code == code


def test_many_lines_after_a_first_one_that_is_not_whole_are_all_read() -> None:
    lines = [b'{"cut": ', *[LINE_ONE] * 20_000]  # more than is read ahead
    found = read(b"\n".join(lines))
    assert found[0] == (1, "malformed_json")
    assert found[1:] == [(number, ONE) for number in range(2, 20_002)]
