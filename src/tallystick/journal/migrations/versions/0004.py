"""Where each org's account stands: grants, open holds, counters."""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_sql(op.get_bind().connection.driver_connection, revision)
