"""The ledger, and who may do what with it."""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_sql(op.get_bind().connection.driver_connection, revision)
