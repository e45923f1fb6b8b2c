"""Whether billing is as it should be, as checks of `/readyz`: they degrade the service, and never stop it."""

from __future__ import annotations

from datetime import timedelta

from tallystick.app.health import Check
from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError
from tallystick.journal.metrics import billing_health

HOLDS_LATE_AFTER = timedelta(minutes=5)
"""For how long a hold may stand after its life is over: it is ended within seconds where something looks."""
_MANY = 1000


def check_billing(runtime: Runtime) -> list[Check]:
    """That no hold outlives its end, and that every request has a price."""
    try:
        with runtime.database.operator() as connection:
            overdue, unpriced = billing_health(connection, runtime.clock() - HOLDS_LATE_AFTER)
    except TallyError as error:
        return [Check("holds", False, error.detail), Check("prices", False, error.detail)]
    return [
        Check(
            "holds",
            not overdue,
            f"{_counted(overdue)} holds stand long after their life was over: see `tally holds expire`"
            if overdue
            else "none stands long after its life is over",
            {"overdue": overdue},
        ),
        Check(
            "prices",
            not unpriced,
            f"{_counted(unpriced)} requests have no price yet: `tally reprice` names their models"
            if unpriced
            else "every request has a price",
            {"unpriced": unpriced},
        ),
    ]


def _counted(count: int) -> str:
    return f"{count:,}" if count < _MANY else f"{_MANY:,} or more"
