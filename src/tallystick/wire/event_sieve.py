"""Looking at a stream of server-sent events as it passes by, every byte kept (WHATWG HTML, 9.2.6).

Unlike `usage.framing`, which reads what events say, this keeps how they were written, so that they go on unchanged. An
event is held while it is open and could still be one that is looked for; what can be none goes on at once.
"""

from __future__ import annotations

import re
from typing import Final

HEAD_BYTES: Final = 4096
"""How much of an open event is looked at to tell what it is."""

_BOM: Final = b"\xef\xbb\xbf"
# A line ends with CR LF, LF or CR; an event with two line ends. A CR at the very end may be half of a CR LF: what
# follows decides, so that it is left until then.
_END: Final = re.compile(rb"(?:\r\n|\n|\r(?=[^\n]))(?:\r\n|\n|\r(?=[^\n]))")
_END_BYTES: Final = 4
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class EventSieve:
    """Cuts what comes into events; what becomes of each is said by those that build on it.

    Attributes:
        passing: whether the open event goes on as it comes.
    """

    held_bytes_max = 1024 * 1024
    """An open event that is longer goes on: memory matters more than what it may turn out to be."""

    def __init__(self) -> None:
        self._open = bytearray()  # of the open event, what has not gone on
        self._last = b""  # of an event that passes, the last bytes
        self.passing = False

    def feed(self, data: bytes) -> bytes:
        """What may go on, now that these bytes have come."""
        is_whole = not self._open and not self.passing and data.endswith((b"\n\n", b"\r\n\r\n"))
        if is_whole and self.is_plain(data):
            return data
        out: list[bytes] = []
        if self.passing:
            data = self._pass_on(data, out)
        if data and not self.passing:
            self._cut(data, out)
        return b"".join(out)

    def rest(self) -> bytes:
        """The open event, when no more bytes come."""
        rest = bytes(self._open)
        self._open.clear()
        return rest

    # ── what is done with events ────────────────────────────────────────────────────────────────

    def is_plain(self, data: bytes) -> bool:
        """Whether these whole events can be none that is looked for; a quick look, which may say no for nothing."""
        raise NotImplementedError

    def take(self, event: bytes, out: list[bytes]) -> None:
        """Take a whole event; what may go on is put into `out`."""
        raise NotImplementedError

    def may_go_on(self, head: bytes) -> bool:
        """Whether the beginning of an event tells that it is none that is looked for."""
        raise NotImplementedError

    # ── cutting ─────────────────────────────────────────────────────────────────────────────────

    def _pass_on(self, data: bytes, out: list[bytes]) -> bytes:
        """Pass the open event on, and give back what stands behind it."""
        seen = self._last + data
        match = _END.search(seen)
        if match is None:
            self._last = seen[1 - _END_BYTES :]
            out.append(data)
            return b""
        end = match.end() - len(self._last)
        self.passing, self._last = False, b""
        out.append(data[:end])
        return data[end:]

    def _cut(self, data: bytes, out: list[bytes]) -> None:
        # The end of an event may begin with the last bytes of what was open.
        search_from = max(0, len(self._open) + 1 - _END_BYTES)
        if self._open:
            self._open += data
        text = self._open or data
        begin = 0
        for match in _END.finditer(text, search_from):
            self.take(bytes(text[begin : match.end()]), out)
            begin = match.end()
        if begin or not self._open:
            self._open = bytearray(text[begin:])
        if self._open:
            self._look_at_open(out)

    def _look_at_open(self, out: list[bytes]) -> None:
        size = len(self._open)
        if size > self.held_bytes_max or (size <= HEAD_BYTES and self.may_go_on(bytes(self._open))):
            out.append(bytes(self._open))
            self._last = bytes(self._open[1 - _END_BYTES :])
            self._open.clear()
            self.passing = True


def event_fields(event: bytes) -> tuple[bytes, bytes]:
    """The name and the data of an event, as a reader would have them; empty where it has none."""
    name, data = b"", []
    for line in _LINE_END.split(event.removeprefix(_BOM)):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return name, b"\n".join(data)
