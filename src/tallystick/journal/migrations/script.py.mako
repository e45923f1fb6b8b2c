"""${message}"""

from __future__ import annotations

from alembic import op

from tallystick.journal.migrations import run_sql

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    run_sql(op.get_bind().connection.driver_connection, revision)
