"""What requests of a time have cost, for comparing one environment with another, from the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.journal.period_scope import Span

_SQL = load_queries("gate")
_FETCH_ROWS = 5000


class Wanted(NamedTuple):
    """Which requests: of the time [start, end), of an environment, of these sessions, with these attributes."""

    start: datetime
    end: datetime
    environment: str
    sessions: Sequence[str] | None = None
    attributes: Mapping[str, str] | None = None

    def parameters(self, minus: Wanted | None) -> dict[str, Any]:
        """As the queries name them; `minus` is left out where it is of the same environment."""
        is_minus = minus is not None and minus.environment == self.environment
        other = minus if minus is not None else self
        return {
            "environment": self.environment,
            "sessions": None if self.sessions is None else list(self.sessions),
            "attributes": _json(self.attributes),
            "minus": is_minus,
            "minus_start": other.start,
            "minus_end": other.end,
            "minus_sessions": None if other.sessions is None else list(other.sessions),
            "minus_attributes": _json(other.attributes),
        }

    def has(
        self, time: datetime, environment: str | None, session: str | None, attributes: Mapping[str, str] | None
    ) -> bool:
        """Whether a request is one of these."""
        return (
            self.start <= time < self.end
            and environment == self.environment
            and (self.sessions is None or session in self.sessions)
            and (self.attributes is None or self.attributes.items() <= (attributes or {}).items())
        )


class CallRow(NamedTuple):
    """Requests of a feature and a model that have cost the same: how many."""

    feature: str | None
    provider: str | None
    model: str | None
    silent: bool
    cost_pico: int | None
    calls: int


class RequestRow(NamedTuple):
    """A request, with the action that it names."""

    request_id: str
    action: str | None
    provider: str | None
    model: str | None
    silent: bool
    cost_pico: int | None


def read_calls(connection: Connection, span: Span, wanted: Wanted, minus: Wanted | None) -> Iterator[CallRow]:
    """The org's requests by feature, model and cost; the connection is one transaction, as for `read_requests`."""
    with connection.cursor("gate_calls") as cursor:
        cursor.itersize = _FETCH_ROWS
        cursor.execute(_SQL["calls"], span.parameters() | wanted.parameters(minus))
        yield from map(CallRow._make, cursor)


def read_requests(connection: Connection, span: Span, wanted: Wanted, minus: Wanted | None) -> Iterator[RequestRow]:
    """The org's requests one by one; the connection is one transaction, open for as long as they are read."""
    with connection.cursor("gate_requests") as cursor:
        cursor.itersize = _FETCH_ROWS
        cursor.execute(_SQL["requests"], span.parameters() | wanted.parameters(minus))
        yield from map(RequestRow._make, cursor)


def read_settlements(connection: Connection, span: Span) -> Iterator[str]:
    """The bodies of the org's settlements from the span's beginning until two days after its end."""
    with connection.cursor("gate_settlements") as cursor:
        cursor.itersize = _FETCH_ROWS
        cursor.execute(_SQL["settlements"], span.parameters())
        for (body,) in cursor:
            yield body


def _json(attributes: Mapping[str, str] | None) -> str | None:
    return None if attributes is None else msgspec.json.encode(dict(attributes)).decode()
