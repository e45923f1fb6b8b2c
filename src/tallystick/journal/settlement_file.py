"""Ends of holds that wait on this machine's disk to be written to the ledger: each hold's once, named by its id.

DATA_DIR/settlements/queue.sqlite    see `waiting_queue`
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tallystick.journal.waiting_queue import NewRow, WaitingQueue, insert_row
from tallystick.ledger.operation_ids import operation_id


class SettlementFile(WaitingQueue):
    """The file of one data directory, for one thread; processes and threads each open their own."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir / "settlements", "queue.sqlite")

    def add(self, ends: Iterable[tuple[str, int, bytes]], now: str) -> None:
        """Put ends of holds (org, hold, content) at the end of the queue, all or none; one that waits stays as it is.

        Raises:
            Unavailable: `storage_full` or `spool_unusable`; then none was added.
        """
        self._make_folder()
        with self._transaction(write=True) as connection:
            for org_id, hold_seq, content in ends:
                insert_row(connection, NewRow(org_id, operation_id("hold", hold_seq), content), now)
            self._raise_flag()  # before the commit: there is no moment at which any wait unseen
