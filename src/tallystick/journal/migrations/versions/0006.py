"""Rollups and jobs."""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_sql(op.get_bind().connection.driver_connection, revision)
