"""Cases for a contract: given an org as it stands, when it does this, then that is decided and charged.

A case is read from YAML (`case_reader`), run on the policy and the state machine that the server runs (`case_run`),
and compared member by member (`case_compare`). docs/contract-testing.md describes the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from tallystick.contract.decision import Budget, Override
from tallystick.contract.model import LimitWindow
from tallystick.ledger.operations import Authorize, Grant
from tallystick.usage.event import Outcome, Payer

Verb = Literal["authorize", "settle", "release", "refund", "record", "grant", "wait"]
Value = str | bool | tuple[str, ...]
"""One member of an answer as it is compared: amounts and instants as text, in the one form that they are written in."""


class FinishedBefore(msgspec.Struct, frozen=True, kw_only=True):
    """Work that was done and charged before the case begins."""

    action: str
    work_key: str
    ago: timedelta


class SpentBefore(msgspec.Struct, frozen=True, kw_only=True):
    """A budget, and what of it is spent when the case begins."""

    budget: Budget
    spent_pico: int


class Granting(msgspec.Struct, frozen=True, kw_only=True):
    """Credits that come in. `lasts`: for how long, where the grant does not name its end."""

    grant: Grant
    lasts: timedelta | None


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """The org as the case finds it.

    Attributes:
        plan: the plan's name; None for none.
        at: the instant; None for that from which the contract holds.
        wallet: what was granted; None for what the plan includes this month, untouched.
        used: by window and meter, what is used of it in the present window.
        overrides: in force when the case begins.
    """

    plan: str | None = None
    at: datetime | None = None
    time_zone: str = "UTC"
    wallet: tuple[Granting, ...] | None = None
    used: Mapping[tuple[LimitWindow, str], int] = {}
    budgets: tuple[SpentBefore, ...] = ()
    overrides: tuple[Override, ...] = ()
    suspended: str | None = None
    enforcement: Literal["enforce", "shadow"] | None = None
    finished: tuple[FinishedBefore, ...] = ()


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request to authorize. `name` is what later steps call its hold; `worst_cost_pico` None: there is no price."""

    name: str | None
    user_id: str
    request: Authorize
    worst_cost_pico: int | None


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """One usage event. `cost_pico` None: it has no price yet. Members that are None are the hold's, or usual ones."""

    meters: Mapping[str, int] = {}
    cost_pico: int | None = 0
    payer: Payer | None = None
    environment: str | None = None
    feature: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None


class Settling(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a hold's work. `hold` None: the last one."""

    hold: str | None
    outcome: Outcome
    events: tuple[Used, ...]
    charge_pico: int | None


class Releasing(msgspec.Struct, frozen=True, kw_only=True):
    hold: str | None


class Refunding(msgspec.Struct, frozen=True, kw_only=True):
    """Credits to give back: of the settlement of that hold (None: the last one); `amount_pico` None: all of it."""

    hold: str | None
    amount_pico: int | None


What = Asked | Settling | Releasing | Refunding | Used | Granting | None
"""What a step does, by its verb; a `wait` does nothing."""


class Expected(msgspec.Struct, frozen=True):
    """What a step is to answer, by the path of each member (`next_step.kind`), and the line that says so."""

    members: Mapping[str, Value]
    line: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happens. `after`: how long after the one before it."""

    line: int
    verb: Verb
    what: What
    after: timedelta
    expected: Expected | None


class Case(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    line: int
    given: Given
    steps: tuple[Step, ...]
