"""One process of the bank: `python -m crash.bank_teller FOLDER NAME SEED SECONDS CLIENTS PROMISES STEP COUNT`.

It dies by SIGKILL when writing reaches the named step for the COUNTth time, or when it is killed, or it ends in time,
or when SIGTERM tells it to.

Its clients spend from a few wallets at once: requests, settlements, releases, refunds, grants, each of them sometimes
two or three times; what has no answer is sent again. Every answer is written down, unbuffered, so that it outlives a
SIGKILL: one that contradicts an earlier answer, or is not in the ledger later, is a broken promise.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from account_operations import authorize, event, grant, refund, release, settle, told
from crash.victim import die_at
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.contract.decision import Budget
from tallystick.core.errors import TallyError, Unavailable
from tallystick.ledger.operations import Held, Operation, Recorded, SetBudget, Settled
from tallystick.usage.event import UsageEvent

ORGS = tuple(f"bank-{number}" for number in range(10))
CONTRACT = """
contract: bank
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  write: {title: Write, price: {credits: 5}, charge_on: [success], repeat: {key: document, within: 30d, credits: 0}}
  find: {title: Find, price: {credits: 2}, charge_on: [success, empty]}
  research: {title: Research, price: {cost_plus: "0.30"}, max_credits: 20}
plans:
  wallet:
    title: Wallet
    kind: credits
    base: "0"
    included_credits: 50
    top_up: true
    overage: true
    limits:
      - {meters: [tokens_in], max: 40_000, per: minute, kind: hard}
environments:
  development: {charge: false}
holds: {life: 2s}
refunds: {grace: 3s}
"""
EXPECTED = (
    "hold_expired", "hold_resolved", "hold_unknown", "refund_exceeds_charge", "grant_expired_already",
    "settlement_unknown", "usage_settled_already", "usage_before_hold",
)  # fmt: skip
"""What operations may be refused for, and that is no wrong of the bank's."""


class Client:
    """One customer: it does one thing after the other, and knows what it was told."""

    def __init__(self, runtime: Runtime, name: str, seed: str, promises: int, closing: threading.Event) -> None:
        self._runtime = runtime
        self._closing = closing
        self._name = name
        self._random = random.Random(seed)
        self._promises = promises
        self._number = 0
        self._told: list[tuple[Operation, bytes]] = []
        self._charged: list[Recorded] = []
        self._sent: list[UsageEvent] = []
        self.answers = 0

    def live(self, until: float) -> None:
        """Do things until the time is up, or the bank closes."""
        held: list[Recorded] = []
        while time.monotonic() < until and not self._closing.is_set():
            draw = self._random.random()
            if draw < 0.45:
                answer = self._do(self._authorize())
                if answer is not None and isinstance(answer.result, Held):
                    held.append(answer)
            elif draw < 0.9 and held:
                self._resolve(held.pop(self._random.randrange(len(held))))
            elif draw < 0.93 and self._charged:
                charged = self._random.choice(self._charged)
                self._do(refund(charged, self._random.choice((None, 1, 2)), self._id()))
            elif draw < 0.96:
                self._do(self._grant())
            elif draw < 0.965:
                self._do(self._budget())
            elif self._told:
                operation, before = self._random.choice(self._told[-50:])
                answer = self._do(operation)
                if answer is not None and told(answer) != before:
                    self._promise({"wrong": f"{operation} was answered {answer}, and before {before!r}"})

    def _resolve(self, hold: Recorded) -> None:
        draw = self._random.random()
        if draw < 0.75:
            used = [
                event(
                    hold.org_id,
                    self._id(),
                    time=self._runtime.clock(),
                    meters={"tokens_in": self._random.randrange(1, 400), "tokens_out": self._random.randrange(9)},
                )
                for _ in range(self._random.choice((0, 1, 1, 2)))
            ]
            named = self._sent_before(hold.org_id)
            self._sent = [*self._sent[-20:], *used]
            used += named
            outcome = self._random.choice(("success", "success", "success", "empty", "failure"))
            answer = self._do(settle(hold, *used, outcome=outcome))
            if answer is not None and isinstance(answer.result, Settled) and answer.result.charged:
                self._charged.append(answer)
        elif draw < 0.9:
            self._do(release(hold))
        # else it is forgotten, as by a caller that has died

    def _sent_before(self, org_id: str) -> list[UsageEvent]:
        """Now and then an event that came by itself or with another settlement: nobody's work yet, or another's."""
        if self._random.random() < 0.1:
            sent = event(org_id, self._id(), time=self._runtime.clock(), meters={"tokens_in": 40})
            with suppress(Unavailable):
                self._runtime.append([sent])
            self._sent = [*self._sent[-20:], sent]
        usable = [one for one in self._sent if one.org_id == org_id]
        return [self._random.choice(usable)] if usable and self._random.random() < 0.3 else []

    def _authorize(self) -> Operation:
        action = self._random.choice(("write", "find", "research"))
        more: dict[str, Any] = {}
        if action == "write":
            more["work_key"] = f"d{self._random.randrange(300)}"
        if self._random.random() < 0.2:
            more["meters"] = {"tokens_in": self._random.randrange(1, 500)}
        if self._random.random() < 0.05:
            more["environment"] = "development"
        return authorize(self._org(), self._id(), user=f"u{self._random.randrange(4)}", action=action, **more)

    def _grant(self) -> Operation:
        more: dict[str, Any] = {"source": self._random.choice(("top_up", "promo", "goodwill"))}
        if self._random.random() < 0.5:
            more["expires_at"] = self._runtime.clock() + timedelta(seconds=self._random.choice((1, 3, 20)))
            more["priority"] = self._random.randrange(3)
        return grant(self._org(), self._random.randrange(1, 60), self._id(), **more)

    def _budget(self) -> Operation:
        name = self._random.choice(("a", "b"))
        guard = Budget(
            name=name, scope=self._random.choice(("org", "user", "feature")), subject=None, per="day", kind="soft",
            of=self._random.choice(("cost", "charge")), max_pico=10**12,
        )  # fmt: skip
        return Operation(
            org_id=self._org(),
            kind="budget",
            request_id=self._id(),
            request=SetBudget(name=name, budget=guard, author="ann"),
            salt=os.urandom(16),
        )

    def _org(self) -> str:
        return self._random.choice(ORGS)

    def _id(self) -> str:
        self._number += 1
        return f"{self._name}-{self._number}"

    # ── sending, and what is told ───────────────────────────────────────────────────────────────

    def _do(self, operation: Operation) -> Recorded | None:
        """Send it, once or several times at once, until it is answered; None when it was refused."""
        copies = self._random.choice((1, 1, 1, 1, 2, 3))
        deadline = time.monotonic() + 60
        while True:
            try:
                futures: list[Future[Recorded]] = [self._runtime.operations.submit(operation) for _ in range(copies)]
                answers = [self._answer(future) for future in futures]
            except Unavailable:  # the answer is lost, or the server away: the same again
                if time.monotonic() > deadline:
                    self._promise({"wrong": f"{operation} had no answer for a minute"})
                    return None
                time.sleep(0.1)
                continue
            recorded = [answer for answer in answers if isinstance(answer, Recorded)]
            self._note(operation, recorded)
            return recorded[0] if recorded else None

    def _answer(self, future: Future[Recorded]) -> Recorded | str:
        try:
            return future.result(60)
        except Unavailable:
            raise
        except TallyError as error:
            if error.code not in EXPECTED:
                self._promise({"wrong": f"{error.code}: {error.detail}"})
            return error.code

    def _note(self, operation: Operation, recorded: list[Recorded]) -> None:
        self.answers += 1
        claims = [one for one in recorded if one.kind != "denial"]
        if len({told(one) for one in claims}) > 1:
            self._promise({"wrong": f"{operation} was answered in several ways: {claims}"})
        for one in claims[:1]:
            self._told.append((operation, told(one)))
            self._promise({"org": one.org_id, "seq": one.seq, "kind": one.kind, "leaf": one.leaf})

    def _promise(self, said: dict[str, Any]) -> None:
        os.write(self._promises, json.dumps(said).encode() + b"\n")


def main() -> None:
    """Open the doors, serve, and close."""
    closing = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: closing.set())
    folder, name, seed, seconds, clients, promises, step, count = sys.argv[1:]
    die_at(step, int(count))
    until = time.monotonic() + float(seconds)
    file = os.open(promises, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    with open_runtime(Settings(data_dir=Path(folder))) as runtime:
        names = [f"{name}.{number}" for number in range(int(clients))]
        customers = [Client(runtime, one, f"{seed} {one}", file, closing) for one in names]
        threads = [threading.Thread(target=customer.live, args=(until,)) for customer in customers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os.write(file, json.dumps({"answers": sum(customer.answers for customer in customers)}).encode() + b"\n")


if __name__ == "__main__":
    main()
