"""What is to be looked at, before it surprises."""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import run_sql

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_sql(op.get_bind().connection.driver_connection, revision)
