"""Several writers of operations over one database, each with what it keeps of orgs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError
from tallystick.journal.operations_writer import OperationWork
from tallystick.ledger.operations import Operation

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


class Writers:
    """Several writers over one database, each with what it keeps, and a clock that they share."""

    def __init__(self, runtime: Runtime, count: int) -> None:
        self.runtime = runtime
        self.now = NOW
        self.connections = [runtime.database.connect_writer() for _ in range(count)]
        self.works = [OperationWork(lambda: self.now, lambda: runtime.card, runtime.random_bytes) for _ in range(count)]

    def write(self, number: int, *items: Any) -> list[Any]:
        """Have one of the writers write a group."""
        return self.works[number].write(self.connections[number], items, probe=False)

    def one(self, number: int, item: Operation) -> Any:
        """The same of one operation, which is not refused."""
        (answer,) = self.write(number, item)
        assert not isinstance(answer, TallyError), answer
        return answer

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
