"""Raw events and questions to the database, for tests of the journal and what is built on it."""

from __future__ import annotations

from typing import Any

from tallystick.app.runtime import Runtime


def raw_event(request_id: str = "r1", **more: Any) -> dict[str, Any]:
    """A sound raw event of October 2026, with whatever differs."""
    event: dict[str, Any] = {
        "org_id": "acme",
        "request_id": request_id,
        "time": "2026-10-15T12:00:00Z",
        "user_id": "u1",
        "session_id": "s1",
        "feature": "chat",
        "environment": "production",
        "provider": "openai",
        "model": "gpt-4o",
        "meters": {"tokens_in": 1000, "tokens_out": 10},
    }
    return {**event, **more}


def query(runtime: Runtime, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    with runtime.database.connection() as connection:
        return connection.execute(sql, parameters).fetchall()


def count(runtime: Runtime, table: str) -> int:
    """How many rows a table has."""
    return int(query(runtime, f"select count(*) from {table}")[0][0])
