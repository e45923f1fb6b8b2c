"""The policy alone: decisions of the kinds that requests get, against the same with nothing worked out before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from time import perf_counter

from bench.report import Row
from tallystick.app.contract_files import reference_text
from tallystick.contract.decision import Budget, BudgetUse, LimitUse, OrgState, Request
from tallystick.contract.loader import load_contract
from tallystick.contract.policy import decide
from tallystick.contract.policy_terms import model_allowed, terms_of

AIM_SECONDS = 20e-6
CALLS, ROUNDS = 20_000, 5
CREDIT = 10**12
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
CONTRACT = load_contract(reference_text(), "reference.yaml")


def _request(action: str | None = None, model: str | None = None, **meters: int) -> Request:
    return Request(
        feature="chat", environment="production", user_id="u1", action=action, model=model, meters=meters,
        worst_cost_pico=2 * 10**9,
    )  # fmt: skip


def _limits(*used: int) -> tuple[LimitUse, ...]:
    ends_at = NOW + timedelta(hours=3)
    return tuple(
        LimitUse(index=index, used=quantity, held=0, starts_at=NOW, resets_at=ends_at)
        for index, quantity in enumerate(used)
    )


def _budgets() -> tuple[BudgetUse, ...]:
    guards = [
        Budget(name="org", scope="org", subject=None, of="cost", per="month", kind="hard", max_pico=10**15),
        Budget(name="user", scope="user", subject=None, of="cost", per="day", kind="soft", max_pico=10**13),
    ]
    later = NOW + timedelta(hours=3)
    return tuple(
        BudgetUse(budget=guard, used_pico=10**12, held_pico=0, starts_at=NOW, resets_at=later) for guard in guards
    )


CASES = {
    "an action, a model and a wallet": (
        "discovery",
        OrgState(now=NOW, available_pico=50 * CREDIT),
        _request("tailor_document", "gpt-5-mini"),
    ),
    "quantities, three limits and two budgets": (
        "free",
        OrgState(now=NOW, limits=_limits(500, 2, 0), budgets=_budgets()),
        _request(None, "gpt-5-mini", tokens_in=200, tokens_out=100, tool_calls=1),
    ),
    "work priced by its cost": (
        "credits",
        OrgState(now=NOW, available_pico=500 * CREDIT, budgets=_budgets()),
        _request("research", "gpt-5", tokens_in=20_000, tokens_out=5_000),
    ),
    "a limit that is passed, and the plan that would do": (
        "free",
        OrgState(now=NOW, limits=_limits(900, 2, 0)),
        _request(None, "gpt-5-mini", tokens_in=200, tokens_out=100),
    ),
}


def run() -> list[Row]:
    rows = []
    for name, (plan, state, request) in CASES.items():
        ask = partial(decide, CONTRACT, plan, state, request)
        kept = min(_seconds(ask, CALLS) for _ in range(ROUNDS))
        anew = min(_seconds(partial(_forgetful, ask), CALLS // 10) for _ in range(ROUNDS))
        rows.append(
            Row(
                f"decide: {name}",
                f"{kept * 1e6:.1f} µs",
                f"terms worked out each time {anew * 1e6:.0f} µs: {anew / kept:.1f} times",
                "20 µs or less",
                kept <= AIM_SECONDS,
            )
        )
    return rows


def _forgetful(ask: Callable[[], object]) -> None:
    terms_of.cache_clear()
    model_allowed.cache_clear()
    ask()


def _seconds(call: Callable[[], object], calls: int) -> float:
    call()
    start = perf_counter()
    for _ in range(calls):
        call()
    return (perf_counter() - start) / calls
