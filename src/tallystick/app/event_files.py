"""Files of events, from small to endless: taken apart into items, and taken in batch by batch.

| the file begins with | it is read as |
|---|---|
| `[`, unless lines follow a whole array | one JSON array of events or CloudEvents, held in memory |
| `{`, and the first line is not whole | one JSON object: one event or one CloudEvent, over several lines |
| anything else | JSON Lines: one event or CloudEvent a line, blank lines skipped, read as it comes |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from io import BytesIO
from itertools import chain, islice
from typing import BinaryIO, NamedTuple, Protocol

import msgspec

from tallystick.app.event_results import EventResult, Refused, results_of
from tallystick.app.ingest import BATCH_EVENTS, check_items
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, Unavailable
from tallystick.core.json_text import read_json, split_array, without_bom
from tallystick.ledger.receipt import Receipt
from tallystick.usage.event import UsageEvent

LINE_BYTES_MAX = 1 << 20
"""The longest line of JSON Lines; an event is a few hundred bytes."""
ARRAY_BYTES_MAX = 256 << 20
"""The largest JSON array; it is held in memory, JSON Lines are not."""


class FileItem(NamedTuple):
    """One item of a file: its JSON value or a `BadInput`, its line (None within an array), how many bytes it took."""

    value: object
    line: int | None
    size: int


class FileResult(NamedTuple):
    """What became of one item of a file. `line` is None within an array; `result.index` counts items from 0."""

    line: int | None
    result: EventResult

    @property
    def place(self) -> str:
        """Where in the file it is, for a person."""
        return f"item {self.result.index}" if self.line is None else f"line {self.line}"


def ingest_file(
    runtime: Runtime,
    stream: BinaryIO,
    *,
    batch_events: int = BATCH_EVENTS,
    advance: Callable[[int], object] = lambda _: None,
) -> Iterator[list[FileResult]]:
    """Take in a file; the results of each batch, once it is on disk, in the order of the file.

    While one batch is being committed, the next is read and checked.

    Args:
        runtime: an open one.
        stream: the file, in binary.
        batch_events: how many events are checked and written together.
        advance: is called with the number of bytes that each batch took.

    Raises:
        BadInput: the items of the file cannot be told apart (`malformed_json`, `file_too_large`, `empty_file`).
        Unavailable: the database is gone, or others fill the journal's queue; taking the same file in again is safe.
    """
    items = read_items(stream)
    index = 0
    under_way: tuple[_Batch, Future[list[Receipt]]] | None = None
    while taken := list(islice(items, batch_events)):
        checked = check_items(runtime, [item.value for item in taken])
        events = [event for event in checked if isinstance(event, UsageEvent)]
        try:
            future = runtime.submit(events)
        except Unavailable as error:
            if error.code != "journal_busy" or under_way is None:
                raise
            # The queue is smaller than two of these batches: one at a time, then.
            yield _finish(*under_way, advance)
            under_way = None
            future = runtime.submit(events)
        if under_way is not None:
            yield _finish(*under_way, advance)
        under_way = _Batch(taken, checked, index), future
        index += len(taken)
    if under_way is not None:
        yield _finish(*under_way, advance)


class _Batch(NamedTuple):
    items: list[FileItem]
    checked: list[UsageEvent | Refused]
    first_index: int


def _finish(batch: _Batch, future: Future[list[Receipt]], advance: Callable[[int], object]) -> list[FileResult]:
    results = results_of(batch.checked, future.result(), first_index=batch.first_index)
    advance(sum(item.size for item in batch.items))
    return [FileResult(item.line, result) for item, result in zip(batch.items, results, strict=True)]


def read_items(stream: BinaryIO) -> Iterator[FileItem]:
    """The items of a file, in order.

    Raises:
        BadInput: `empty_file`, `file_too_large` (an array), `malformed_json` (an array that is not one).
    """
    lines = _lines(stream)
    first = next(lines, None)
    if first is None:
        raise BadInput("empty_file", "there is nothing in the file", next_step="give a file with one event a line")
    number, text = first
    if isinstance(text, _TooLong) or not text.startswith((b"[", b"{")):
        yield from map(_item, chain([first], lines))
    elif text.startswith(b"["):
        second = next(lines, None) if _is_whole(text) else None
        if second is None:
            yield from _array_items(text, stream)
        else:
            yield from map(_item, chain([first, second], lines))
    elif _is_whole(text):
        yield from map(_item, chain([first], lines))
    else:
        yield from _object_or_lines(number, text, stream)


class _TooLong(bytes):
    """The beginning of a line that is longer than any line may be."""


class _Lines(Protocol):
    def readline(self, limit: int, /) -> bytes: ...


def _lines(stream: _Lines, number: int = 0) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers; no more than one line is held in memory."""
    while line := stream.readline(LINE_BYTES_MAX + 1):
        number += 1
        text = without_bom(line) if number == 1 else line
        if len(line) > LINE_BYTES_MAX:
            if text.lstrip().startswith(b"[") and number == 1:
                yield number, text.lstrip()
                return
            while line and not line.endswith(b"\n"):
                line = stream.readline(LINE_BYTES_MAX)
            yield number, _TooLong(text[:1])
        elif text := text.strip(b" \t\r\n"):
            yield number, text


def _is_whole(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _item(numbered: tuple[int, bytes]) -> FileItem:
    number, text = numbered
    if isinstance(text, _TooLong):
        error = BadInput(
            "line_too_long",
            f"the line is longer than {LINE_BYTES_MAX:,} bytes",
            next_step="write one event a line",
        )
        return FileItem(error, number, LINE_BYTES_MAX)
    return FileItem(_value(text), number, len(text) + 1)


def _value(text: bytes | msgspec.Raw) -> object:
    try:
        return read_json(text)
    except BadInput as error:
        return error.with_traceback(None)  # it is kept; the frames that it came through need not be


def _array_items(start: bytes, stream: BinaryIO) -> Iterator[FileItem]:
    text = start + stream.read(ARRAY_BYTES_MAX - len(start) + 1)
    if len(text) > ARRAY_BYTES_MAX:
        raise BadInput(
            "file_too_large",
            f"a JSON array of more than {ARRAY_BYTES_MAX:,} bytes is not held in memory",
            next_step="write JSON Lines: one event a line, without brackets and commas around",
        )
    try:
        raws: list[bytes] | list[msgspec.Raw] = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (ValueError, RecursionError):
        try:
            read_json(text)
        except BadInput as error:
            if error.code not in ("invalid_text", "nested_too_deep", "invalid_utf8", "number_out_of_range"):
                raise
        raws = split_array(text)
    for raw in raws:
        yield FileItem(_value(raw), None, len(bytes(raw)) + 1)


def _object_or_lines(number: int, first: bytes, stream: BinaryIO) -> Iterator[FileItem]:
    """A first line that is not whole: the beginning of one object over several lines, or just a bad line."""
    rest = stream.read(LINE_BYTES_MAX)
    whole = first + b"\n" + rest
    if len(rest) < LINE_BYTES_MAX and _is_whole(whole):
        yield FileItem(_value(whole), number, len(whole))
        return
    yield _item((number, first))
    yield from map(_item, _lines(_Joined(rest, stream), number))


class _Joined:
    """Bytes that were read ahead, then the stream that they came from."""

    def __init__(self, ahead: bytes, stream: BinaryIO) -> None:
        self._ahead = BytesIO(ahead)
        self._stream = stream

    def readline(self, limit: int) -> bytes:
        line = self._ahead.readline(limit)
        if len(line) < limit and not line.endswith(b"\n"):
            line += self._stream.readline(limit - len(line))
        return line
