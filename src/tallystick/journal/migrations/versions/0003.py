"""The register: a chained hash of rows that have no leaves."""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import run_sql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_sql(op.get_bind().connection.driver_connection, revision)
