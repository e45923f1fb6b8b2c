"""The life of invoices, and facts that came late."""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import run_sql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_sql(op.get_bind().connection.driver_connection, revision)
