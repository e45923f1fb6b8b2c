"""What `tally doctor` looks at in the ledger itself: what prices and bills it, and whether what runs by itself does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tallystick.app.alert_list import AlertQuestion, find_alerts
from tallystick.app.contracts import find_contract, list_contracts
from tallystick.app.doctor import Examination, Finding, from_check
from tallystick.app.job_list import jobs_of
from tallystick.app.job_runs import check_jobs
from tallystick.app.keys import list_keys
from tallystick.app.orgs import Org, all_orgs
from tallystick.app.rollup_health import check_rollups
from tallystick.app.runtime import Runtime
from tallystick.app.seal_loop import check_sealing
from tallystick.app.signing import known_keys, read_signing_key, signing_key_path
from tallystick.app.webhook_secrets import read_key, webhook_key_path
from tallystick.core.errors import NotFound
from tallystick.core.instants import format_instant
from tallystick.journal.contracts import version_in_force
from tallystick.journal.metrics import LedgerFigures, ledger_figures
from tallystick.journal.webhook_endpoints import newest_secrets
from tallystick.ledger.api_key import Key

CARD_AGE_MAX = timedelta(days=45)
"""How old the newest rate card may be: providers change prices more often than that."""
SEAL_LAG_MAX = timedelta(hours=2)
"""How long an entry may wait for its block: sealing is due after 15 minutes."""
KEY_ENDS_WITHIN = timedelta(days=14)
"""How soon before it ends a key is spoken of."""
_NAMED_MAX = 5

NAMES = (
    "rate_cards", "contracts", "plans", "zones_of_orgs", "prices", "sealing", "checkpoint_key", "holds", "keys", "jobs",
    "rollups", "alerts", "webhook_secrets",
)  # fmt: skip
"""The checks that are made here."""


def examine(found: Examination, runtime: Runtime) -> None:
    """Make all of these checks."""
    now = runtime.clock()
    orgs: list[Org] = []
    figures: list[LedgerFigures] = []

    def gather() -> Sequence[Finding]:
        orgs.extend(all_orgs(runtime))
        with runtime.database.operator() as connection:
            figures.append(ledger_figures(connection, now))
        return []

    if not found.look("ledger", gather):
        found.not_checked += NAMES
        return
    checks: dict[str, Callable[[], Finding]] = {
        "rate_cards": lambda: _rate_cards(runtime, now),
        "contracts": lambda: _contracts(runtime, now),
        "plans": lambda: _plans(runtime, orgs),
        "zones_of_orgs": lambda: _zones(orgs),
        "prices": lambda: _prices(figures[0]),
        "sealing": lambda: _sealing(runtime, figures[0], now),
        "checkpoint_key": lambda: _checkpoint_key(runtime),
        "holds": lambda: _holds(runtime, figures[0]),
        "keys": lambda: _keys(list_keys(runtime), now),
        "jobs": lambda: from_check(check_jobs(runtime, jobs_of(runtime.settings)), "see `tally jobs`, and run them"),
        "rollups": lambda: from_check(check_rollups(runtime), "run `tally rollup run`, and see `tally jobs`"),
        "alerts": lambda: _alerts(runtime),
        "webhook_secrets": lambda: _webhook_secrets(runtime),
    }
    for name in NAMES:
        found.look(name, checks[name])


def _rate_cards(runtime: Runtime, now: datetime) -> Finding:
    if not runtime.cards.versions:
        return Finding("rate_cards", "fail", "no rate card is loaded", "start `tally serve`, which loads them")
    newest = runtime.cards.versions[-1]
    age = now - newest.header.known_at
    said = f"{len(runtime.cards.versions)} versions; the newest, {newest.name}, is of {newest.header.known_at:%Y-%m-%d}"
    figures = {"versions": len(runtime.cards.versions), "age_days": age.days}
    if age > CARD_AGE_MAX:
        step = "run `tally rates refresh`, read what has changed, and add the card"
        return Finding("rate_cards", "warn", f"{said}, {age.days} days ago", step, figures)
    return Finding("rate_cards", "ok", said, figures=figures)


def _contracts(runtime: Runtime, now: datetime) -> Finding:
    names = {one.contract for one in list_contracts(runtime)}
    if not names:
        step = "apply one: tally contract apply FILE"
        return Finding("contracts", "warn", "no contract was ever applied: nobody is charged", step)
    holding = {name: version_in_force(list_contracts(runtime, name), now) for name in sorted(names)}
    waiting = [name for name, version in holding.items() if version is None]
    if waiting:
        said = f"no version is in force yet of {', '.join(waiting)}"
        return Finding("contracts", "warn", said, "see `tally contract list` for when they begin")
    said = ", ".join(f"{name}@{version.version}" for name, version in holding.items() if version is not None)
    return Finding("contracts", "ok", f"in force: {said}", figures={"contracts": len(names)})


def _plans(runtime: Runtime, orgs: Sequence[Org]) -> Finding:
    without = [org.org_id for org in orgs if org.entries and org.subscription is None]
    if without:
        said = f"{len(without):,} orgs have entries and are on no plan, so that nobody is charged for them"
        step = "put them on one: tally orgs set ORG"
        return Finding("plans", "warn", f"{said}: {_some(without)}", step, {"orgs": len(without)})
    lost = sorted(f"{name}/{plan}" for name, plan in _subscriptions(orgs) if not _is_offered(runtime, name, plan))
    if lost:
        said = f"orgs are on plans that the newest version of their contract does not have: {_some(lost)}"
        return Finding("plans", "warn", said, "put them on another, or apply a contract that has these plans")
    return Finding("plans", "ok", f"each of the {len(orgs):,} orgs is on a plan, or has nothing to be charged for")


def _subscriptions(orgs: Sequence[Org]) -> set[tuple[str, str]]:
    """Contracts and their plans that orgs are on."""
    held = (org.subscription for org in orgs if org.subscription is not None)
    return {(one.contract, one.plan) for one in held if one.plan is not None}


def _is_offered(runtime: Runtime, contract: str, plan: str) -> bool:
    try:
        return plan in find_contract(runtime, contract).contract.plans
    except NotFound:
        return False


def _zones(orgs: Sequence[Org]) -> Finding:
    names = sorted({one.time_zone for org in orgs for one in org.history})
    unknown = [name for name in names if not _is_zone(name)]
    if unknown:
        step = "install newer time zone data: months of orgs in these zones cannot be computed"
        return Finding("zones_of_orgs", "fail", f"this machine does not know the zones {_some(unknown)}", step)
    return Finding("zones_of_orgs", "ok", f"this machine knows the zones of all orgs: {_some(names) or 'none yet'}")


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        return False
    return True


def _prices(ledger: LedgerFigures) -> Finding:
    if ledger.unpriced:
        said = f"{ledger.unpriced:,} requests have no price: their models, meters or tiers are on no rate card"
        step = "add a rate card that has them; `tally jobs run rates` then gives them their prices"
        return Finding("prices", "warn", said, step, {"unpriced": ledger.unpriced})
    return Finding("prices", "ok", "every request has a price", figures={"unpriced": 0})


def _sealing(runtime: Runtime, ledger: LedgerFigures, now: datetime) -> Finding:
    check = check_sealing(runtime.settings)
    lag = timedelta(0) if ledger.oldest_unsealed_at is None else max(timedelta(0), now - ledger.oldest_unsealed_at)
    figures = {**check.figures, "unsealed": ledger.unsealed, "lag_seconds": round(lag.total_seconds())}
    if not check.ok:
        return Finding("sealing", "fail", check.detail, "run `tally seal`, and `tally verify`", figures)
    if lag > SEAL_LAG_MAX:
        hours = lag.total_seconds() / 3600
        said = f"{ledger.unsealed:,} entries are in no block, the oldest for {hours:,.1f} hours"
        return Finding("sealing", "warn", said, "let `tally serve` run, or run `tally seal`", figures)
    return Finding("sealing", "ok", f"{check.detail}; {ledger.unsealed:,} entries wait", figures=figures)


def _checkpoint_key(runtime: Runtime) -> Finding:
    known, path = known_keys(runtime), signing_key_path(runtime.settings)
    if not known:
        return Finding("checkpoint_key", "ok", "nothing was signed yet")
    if not path.exists():
        step = "put the file back (from a backup), or make another key deliberately: tally checkpoint rotate-key"
        return Finding("checkpoint_key", "fail", f"checkpoints were signed, and there is no {path}", step)
    if read_signing_key(path).public not in known:
        step = "put the ledger's own key back, from a backup"
        return Finding("checkpoint_key", "fail", f"the key in {path} never signed for this ledger", step)
    return Finding("checkpoint_key", "ok", f"{path} is one of the {len(known)} keys that signed for this ledger")


def _holds(runtime: Runtime, ledger: LedgerFigures) -> Finding:
    figures = {"open": ledger.open_holds, "overdue": ledger.overdue_holds}
    if ledger.overdue_holds:
        said = f"{ledger.overdue_holds:,} of {ledger.open_holds:,} holds are past their life and still keep credits"
        return Finding("holds", "warn", said, "let `tally serve` run, or run `tally holds expire`", figures)
    return Finding("holds", "ok", f"{ledger.open_holds:,} holds stand, none past its life", figures=figures)


def _keys(keys: Sequence[Key], now: datetime) -> Finding:
    taken = [key for key in keys if key.is_taken(now)]
    replaced = {key.replaces for key in keys}
    ending = []
    for key in taken:
        ends_at = min((at for at in (key.expires_at, key.ends_at) if at is not None), default=None)
        if ends_at is not None and ends_at - now < KEY_ENDS_WITHIN and key.key_id not in replaced:
            ending.append(f"{key.key_id} of {key.org_id or 'an operator'} at {format_instant(ends_at)}")
    figures = {"taken": len(taken), "ending": len(ending)}
    if ending:
        said = f"{len(ending):,} keys end within {KEY_ENDS_WITHIN.days} days, and nothing has taken their place"
        return Finding("keys", "warn", f"{said}: {_some(ending)}", "rotate them: tally keys rotate KEY", figures)
    said = f"{len(taken):,} keys are taken; none ends within {KEY_ENDS_WITHIN.days} days"
    return Finding("keys", "ok", said, figures=figures)


def _alerts(runtime: Runtime) -> Finding:
    """Those that are the operator's own; what customers are told is theirs."""
    firing = find_alerts(runtime, AlertQuestion(own=True)).alerts
    if firing:
        rules = sorted({str(one["rule"]) for one in firing})
        return Finding(
            "alerts", "warn", f"{len(firing):,} alerts are firing: {_some(rules)}", "see `tally alerts list`"
        )
    return Finding("alerts", "ok", "no alert of the operator's own is firing")


def _webhook_secrets(runtime: Runtime) -> Finding:
    """Whether the key is here that the newest secret of each endpoint is sealed under."""
    with runtime.database.operator() as connection:
        kept = newest_secrets(connection)
    key = read_key(runtime.settings)
    locked = sorted(endpoint for endpoint, key_id in kept if key is None or key.key_id != key_id)
    if locked:
        said = f"the key that secrets of {len(locked):,} webhooks are sealed under is not here: {_some(locked)}"
        step = f"put {webhook_key_path(runtime.settings)} back, or give them other secrets: tally webhooks rotate"
        return Finding("webhook_secrets", "fail", said, step, {"locked": len(locked)})
    return Finding("webhook_secrets", "ok", f"the secrets of {len(kept):,} webhooks open with the key that is here")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_MAX:,} more" if len(names) > _NAMED_MAX else ""
    return ", ".join(names[:_NAMED_MAX]) + more
