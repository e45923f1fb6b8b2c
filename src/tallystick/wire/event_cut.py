"""Cutting a stream of server-sent events into its events, every byte kept (WHATWG HTML, 9.2.6).

Unlike `usage.framing`, which reads what events say, this keeps how they were written, so that they can go on unchanged.
"""

from __future__ import annotations

import re
from typing import Final

_BOM: Final = b"\xef\xbb\xbf"
# A line ends with CR LF, LF or CR; an event with two line ends. A CR at the very end may be half of a CR LF: what
# follows decides, so that it is left for then.
_END: Final = re.compile(rb"(?:\r\n|\n|\r(?=[^\n]))(?:\r\n|\n|\r(?=[^\n]))")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class EventCutter:
    """Gives back whole events as their bytes become whole, however they come."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are whole now, each with the empty line that ends it; `rest` is what is open."""
        buffer = self.rest + data if self.rest else data
        # The end of an event may begin with the last three bytes of what was open.
        search_from = max(0, len(self.rest) - 3)
        events, begin = [], 0
        for match in _END.finditer(buffer, search_from):
            events.append(buffer[begin : match.end()])
            begin = match.end()
        self.rest = buffer[begin:]
        return events


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
