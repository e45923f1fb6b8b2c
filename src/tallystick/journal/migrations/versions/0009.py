"""Who did what, and why."""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import run_sql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run_sql(op.get_bind().connection.driver_connection, revision)
