"""What customers dispute, and what became of it."""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import run_sql

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    run_sql(op.get_bind().connection.driver_connection, revision)
