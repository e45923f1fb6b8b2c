"""Rollups and jobs."""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import run_jobs_sql, run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    connection = op.get_bind().connection.driver_connection
    run_sql(connection, revision)
    run_jobs_sql(connection, "procrastinate_3.10.0")
