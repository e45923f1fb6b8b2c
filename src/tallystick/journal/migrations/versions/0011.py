"""Recorded breaches of promised service."""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import run_sql

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run_sql(op.get_bind().connection.driver_connection, revision)
