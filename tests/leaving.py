"""Orgs of long ago, whose entries leave the database for blocks."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from accounts import CONTRACT
from tallystick.app.contracts import apply_contract
from tallystick.app.orgs import set_subscription
from tallystick.app.retention import run_retention
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.core.instants import parse_instant

OLD_CONTRACT = CONTRACT.replace("2026-10-01", "2025-01-01")


def open_shop_in_2025(runtime: Runtime, **plans: str) -> None:
    """The shop of `accounts`, as it was in 2025: the database's own clock lets what is of that time go."""
    apply_contract(runtime, OLD_CONTRACT, "shop.yaml")
    for org_id, plan in plans.items():
        began = parse_instant("2025-01-01")
        set_subscription(runtime, org_id, contract="shop", plan=plan, time_zone="Europe/Paris", effective_from=began)


def let_go(runtime: Runtime, then: datetime) -> None:
    """Seal all that there is, and let go of what was recorded by `then`."""
    settings = runtime.settings.model_copy(update={"block_entries_max": 3, "retention_days": 45})
    seal_once(replace(runtime, settings=settings), everything=True)
    later = replace(runtime, settings=settings, clock=lambda: then + timedelta(days=60))
    assert run_retention(later).entries > 0
