"""Rollups and jobs."""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import make_queue, run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    connection = op.get_bind().connection.driver_connection
    run_sql(connection, revision)
    make_queue(connection)
