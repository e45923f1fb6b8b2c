"""Logs as JSON lines on stderr, ours and those of the libraries alike, each with the request id it belongs to."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import msgspec
import structlog

from tallystick.core.key_shapes import without_secrets


def hide_secrets(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Addresses and texts of errors hold what callers send, and that may be a token, by a slip of the pen."""
    for name, value in line.items():
        if isinstance(value, str):
            line[name] = without_secrets(value)
    return line


_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    hide_secrets,
]


def configure_logging(stream: TextIO = sys.stderr, *, level: int = logging.INFO) -> None:
    """Send every log line of this process to `stream` as one JSON object a line.

    Members: `event`, `level`, `timestamp`, `request_id` while a request is served, and whatever the line
    itself says. Tracebacks are text in `exception`.
    """
    structlog.configure(
        processors=[*_SHARED, structlog.processors.JSONRenderer(ensure_ascii=False)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))  # libraries speak up when something is wrong, not before


_encode_lines = msgspec.json.Encoder().encode_lines


class LineBuffer:
    """Log lines of an event loop that has thousands of them a second: made and written together, a moment later.

    Each by itself would take longer than what it tells of. What the process is killed with is lost: a twentieth
    of a second's lines, of requests whose events are in the ledger all the same.
    """

    FLUSH_SECONDS = 0.05

    def __init__(self, loop: asyncio.AbstractEventLoop, stream: TextIO = sys.stderr) -> None:
        self._loop = loop
        self._stream = stream
        self._lines: list[msgspec.Struct | msgspec.Raw] = []

    def add(self, line: msgspec.Struct | msgspec.Raw) -> None:
        """Keep a line until the next flush: what it says, or itself, which is JSON without a line feed."""
        if not self._lines:
            self._loop.call_later(self.FLUSH_SECONDS, self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write what there is."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._stream.write(_encode_lines(lines).decode())
            self._stream.flush()
