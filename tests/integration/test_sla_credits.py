"""Service credits: what was down is credited once, on the month's own invoice, and what is recorded later as well."""

from __future__ import annotations

from typing import Any

import pytest

from billing import OCTOBER, SELLER, findings
from invoicing import apply, event, record, subscribe
from tallystick.app.incidents import list_incidents, record_incident, withdraw_incident
from tallystick.app.invoice_life import finalize_month
from tallystick.app.runtime import Runtime
from tallystick.app.sla import given_for, show_sla
from tallystick.app.sla_credits import credit_late_incidents
from tallystick.core.errors import TallyError

PROMISE = """
sla:
  availability: [{below: "99.9", credit: "0.10"}, {below: "99.0", credit: "0.25"}]
  latency: [{over_ms: 2000, share: "0.25", credit: "0.05"}, {minutes: 60, credit: "0.20"}]
  cap: "0.40"
"""


def incident(request_id: str, begin: str, end: str, **more: Any) -> dict[str, Any]:
    whom = {} if "orgs" in more else {"all": True}
    said = {"kind": "downtime", "reason": "a switch failed", "author": "ann"}
    return {"request_id": request_id, "from": f"2026-10-{begin}Z", "to": f"2026-10-{end}Z", **said, **whom, **more}


@pytest.fixture
def promised(runtime: Runtime) -> Runtime:
    apply(runtime, SELLER + PROMISE)
    subscribe(runtime, "globex")
    subscribe(runtime, "initech")
    return runtime


def cents(runtime: Runtime, org_id: str = "globex") -> list[int]:
    return [one.amount_cents for one in given_for(runtime, org_id, OCTOBER)]


def test_downtime_is_credited_once_on_the_months_own_invoice(promised: Runtime) -> None:
    record_incident(promised, incident("i1", "10T10:00:00", "10T10:40:00"))
    record_incident(promised, incident("i2", "10T10:30:00", "10T11:00:00", orgs=["globex"]))
    # an hour of October's 744 for globex: 99.8656 % of the time, below the first bound
    (result,) = finalize_month(promised, OCTOBER, ["globex"])
    assert result.life is not None and result.life.account is not None
    assert result.life.account.due_cents == 900
    assert cents(promised) == [100]
    (again,) = finalize_month(promised, OCTOBER, ["globex"])
    assert again.status == "already_issued" and cents(promised) == [100]
    # 40 minutes of 44,640 for initech: 99.91 %
    (other,) = finalize_month(promised, OCTOBER, ["initech"])
    assert other.life is not None and other.life.account is not None and other.life.account.due_cents == 1000
    assert cents(promised, "initech") == []
    assert findings(promised) == []
