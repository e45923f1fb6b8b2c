"""The year that `plan` wrote down, lived through: the use cases of the product, one act after the other, on a
clock that stands where the year does.

Every act has ids of its own and may be done again: what was done already must not be done twice. What is refused is
noted, and must be refused again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, time, timedelta
from fractions import Fraction
from itertools import groupby
from typing import Any

from account_operations import REFERENCE
from tallystick.app.authorize import authorize
from tallystick.app.contracts import apply_contract
from tallystick.app.disputes import open_dispute, reject_dispute, uphold_dispute, withdraw_dispute
from tallystick.app.grants import grant
from tallystick.app.incidents import record_incident
from tallystick.app.ingest import ingest_events
from tallystick.app.invoice_actions import credit_invoice, record_payment, void_invoice
from tallystick.app.invoice_credits import give_credit_asked
from tallystick.app.invoice_life import show_life
from tallystick.app.job_list import jobs_of
from tallystick.app.jobs import run_job
from tallystick.app.parties import set_profile
from tallystick.app.promos import create_promo, redeem_promo
from tallystick.app.refund import refund
from tallystick.app.release import release
from tallystick.app.runtime import Runtime
from tallystick.app.settle import settle
from tallystick.app.subscribe import leave_org, set_subscription
from tallystick.core.errors import TallyError
from tallystick.core.money import cents_to_usd
from year.plan import YEAR, Act

NOON = time(12)
DECIDED = {"uphold": uphold_dispute, "reject": reject_dispute, "withdraw": withdraw_dispute}
AUTHOR = "ann@seller.example"
JOB_DAYS = (2, 3, 10, 20)
"""Of each month: when jobs run."""
CONTRACT = (
    REFERENCE.replace("contract: reference", "contract: acme").replace("2026-10-01", "2025-12-01")
    + """
sla:
  availability: [{below: "99.9", credit: "0.10"}, {below: "98.0", credit: "0.25"}]
  latency: [{over_ms: 2000, share: "0.30", requests: 3, credit: "0.05"}]
  cap: "0.25"
"""
)
DEARER = (
    CONTRACT.replace('version: "2025-12-01"', 'version: "2026-04-01"')
    .replace("2025-12-01T00", "2026-04-01T00")
    .replace('tokens_in: {unit: "0.10", per: 1_000_000}', 'tokens_in: {unit: "0.13", per: 1_000_000}')
)


class Clock:
    """A clock that stands where it was last put."""

    def __init__(self) -> None:
        self.now = datetime(YEAR - 1, 12, 31, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Life:
    """What happens, as it happens.

    Attributes:
        refused: by org, act and code, how often something was refused.
    """

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self.runtime = runtime
        self.clock = clock
        self.refused: Counter[tuple[str, str, str]] = Counter()

    def live(
        self,
        acts: Iterable[Act],
        *,
        order: random.Random | None = None,
        again: bool = False,
        jobs: Callable[[Life], None] | None = None,
    ) -> None:
        """Live through all of it.

        Args:
            order: shuffles what has no order; None for the order of the plan.
            again: every act and every job is done twice.
            jobs: runs the jobs in another way than here.
        """
        self._begin()
        by_day = {day: list(some) for day, some in groupby(acts, key=lambda act: act.day)}
        day, last = min(by_day), max(by_day) + timedelta(days=4)
        while day <= last:
            self.clock.now = datetime.combine(day, NOON, UTC)
            for act in _ordered(by_day.get(day, []), order):
                for _ in range(1 + again):
                    self.do(act)
            if day.day in JOB_DAYS:
                for _ in range(1 + again):
                    (jobs or Life.run_jobs)(self)
            day += timedelta(days=1)

    def do(self, act: Act) -> None:
        """Do one act; a refusal is noted."""
        try:
            getattr(self, act.what)(act.org_id, **act.given)
        except TallyError as error:
            self.refused[act.org_id, act.what, error.code] += 1

    def run_jobs(self) -> None:
        """Every job that there is, once."""
        run_jobs(self.runtime)

    def _begin(self) -> None:
        for text in (CONTRACT, DEARER):
            apply_contract(self.runtime, text, "acme.yaml")

    # ── usage and wallets ───────────────────────────────────────────────────────────────────────────────────────────

    def use(self, org_id: str, event: dict[str, Any]) -> None:
        (result,) = ingest_events(self.runtime, [{"org_id": org_id, **event}])
        assert result.status in ("accepted", "duplicate"), result

    def top_up(self, org_id: str, request_id: str, credits: str) -> None:
        said = {"request_id": request_id, "source": "top_up", "credits": credits, "author": AUTHOR, "reason": "paid"}
        grant(self.runtime, org_id, said)

    def work(
        self, org_id: str, request_id: str, action: str, document: str, ends: str, tokens: int, model: str
    ) -> None:
        common = {"feature": "work", "environment": "production", "user_id": "user-1", "session_id": "work"}
        asked = {"org_id": org_id, "request_id": request_id, "action": action, "model": model, **common}
        answer = authorize(self.runtime, asked | ({"work_key": document} if action == "tailor_document" else {}))
        if answer.kind != "hold":
            self.refused[org_id, "work", "denied"] += 1
            return
        held = {"org_id": org_id, "hold_id": f"h{answer.seq}"}
        if ends == "release":
            release(self.runtime, held)
        elif ends != "never":
            meters = {"tokens_in": tokens, "tokens_out": tokens // 9}
            event = {
                "request_id": f"{request_id}-call", "time": self.clock.now.isoformat(), "provider": "openai",
                "model": model, "outcome": "failure" if ends == "failure" else "success", "meters": meters,
            }  # fmt: skip
            settle(self.runtime, {**held, "outcome": ends, "events": [event]})

    def refund(self, org_id: str, work: str) -> None:
        with self.runtime.database.org(org_id) as connection:
            found = connection.execute(
                "select done.seq from ledger_entries as hold join ledger_entries as done on done.org_id = hold.org_id "
                "and done.refers_to_seq = hold.seq and done.kind = 'settlement' "
                "where hold.org_id = %s and hold.kind = 'hold' and hold.request_id = %s",
                [org_id, work],
            ).fetchall()
        for (seq,) in found:
            said = {"org_id": org_id, "request_id": f"refund-{work}", "settlement_id": f"s{seq}"}
            refund(self.runtime, {**said, "author": AUTHOR, "reason": "it was of no use"})

    # ── terms ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def subscribe(self, org_id: str, plan: str, zone: str) -> None:
        begins = self.clock.now
        set_subscription(self.runtime, org_id, contract="acme", plan=plan, time_zone=zone, effective_from=begins)

    def change_plan(self, org_id: str, plan: str) -> None:
        set_subscription(self.runtime, org_id, contract="acme", plan=plan, when="now")

    def leave(self, org_id: str) -> None:
        leave_org(self.runtime, org_id, when="now")

    def bill_to(self, org_id: str, name: str) -> None:
        set_profile(self.runtime, org_id, {"request_id": "first", "author": AUTHOR, "name": name})

    # ── money ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def pay(self, org_id: str, month: str, key: str, share: tuple[int, int], returned: bool = False) -> None:
        usd = self._share(org_id, month, share)
        said = {"request_id": f"{org_id}:{month}:{key}", "amount_usd": usd, "author": AUTHOR, "returned": returned}
        record_payment(self.runtime, f"{org_id}/{month}", said)

    def void(self, org_id: str, month: str) -> None:
        void_invoice(self.runtime, f"{org_id}/{month}", {"author": AUTHOR, "reason": "never used"})

    def credit_note(self, org_id: str, month: str, share: tuple[int, int]) -> None:
        said = {"request_id": f"note-{month}", "amount_usd": self._share(org_id, month, share)}
        credit_invoice(self.runtime, f"{org_id}/{month}", {**said, "author": AUTHOR, "reason": "agreed"})

    def promo_code(self, _: str, **given: Any) -> None:
        create_promo(self.runtime, {"author": AUTHOR, **given})

    def redeem(self, org_id: str, code: str, key: str = "first") -> None:
        redeem_promo(self.runtime, org_id, {"request_id": f"{key}-{code}", "code": code, "author": AUTHOR})

    def goodwill(self, org_id: str, month: str, amount_usd: str) -> None:
        said = {"request_id": f"goodwill-{month}", "source": "goodwill", "amount_usd": amount_usd}
        give_credit_asked(self.runtime, org_id, {**said, "author": AUTHOR, "reason": "sorry"})

    def incident(self, _: str, start: datetime, end: datetime, key: str) -> None:
        said = {"request_id": key, "kind": "downtime", "from": start.isoformat(), "to": end.isoformat(), "all": True}
        record_incident(self.runtime, {**said, "author": AUTHOR, "reason": "a database stood still"})

    # ── disputes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def dispute(self, org_id: str, month: str, about: str) -> None:
        said: dict[str, Any] = {"request_id": f"dispute-{month}", "author": org_id, "reason": "that is too much"}
        if about == "requests":
            said |= {"org_id": org_id, "request_ids": [f"{month[-2:]}-{place:03d}" for place in range(2)]}
        else:
            said |= {"invoice_id": f"{org_id}/{month}"} | ({"line": 1} if about == "line" else {})
        open_dispute(self.runtime, said)

    def decide(self, org_id: str, month: str, verdict: str) -> None:
        with self.runtime.database.org(org_id) as connection:
            found = connection.execute(
                "select seq from ledger_entries where org_id = %s and kind = 'dispute' and request_id = %s",
                [org_id, f"dispute-{month}"],
            ).fetchall()
        said = {"author": AUTHOR, "reason": "looked at"}
        for (seq,) in found:
            DECIDED[verdict](self.runtime, f"q{seq}", said, org_id=org_id)

    def _share(self, org_id: str, month: str, share: tuple[int, int]) -> str:
        """A share of what an invoice comes to, in whole cents."""
        total = show_life(self.runtime, f"{org_id}/{month}").life.total_cents
        return cents_to_usd(round(total * Fraction(*share)))


def run_jobs(runtime: Runtime) -> None:
    """Every job, once, but for the check of everything: it moves nothing, and comes at the year's end."""
    for name, job in jobs_of(runtime.settings).items():
        if name != "verify":
            run_job(runtime, job, by="year")


def _ordered(acts: list[Act], order: random.Random | None) -> list[Act]:
    """The acts of a day, shuffled: facts are anywhere, the others of one org keep their order."""
    if order is None:
        return acts
    shuffled = list(acts)
    order.shuffle(shuffled)
    kept: dict[str, list[Act]] = {}
    for act in acts:
        if not act.is_fact:
            kept.setdefault(act.org_id, []).append(act)
    # The seller's own acts come first: a code is there before it is redeemed.
    mixed = [act if act.is_fact else kept[act.org_id].pop(0) for act in shuffled]
    return [act for act in mixed if not act.org_id] + [act for act in mixed if act.org_id]
