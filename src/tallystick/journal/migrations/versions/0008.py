"""Endpoints that events are sent to, and what was sent."""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import run_sql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_sql(op.get_bind().connection.driver_connection, revision)
