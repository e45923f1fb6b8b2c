"""Keys: who may call, for which org, for what."""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import run_sql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_sql(op.get_bind().connection.driver_connection, revision)
