"""What payment providers have told."""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import run_sql

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    run_sql(op.get_bind().connection.driver_connection, revision)
