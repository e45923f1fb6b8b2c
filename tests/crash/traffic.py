"""Senders that write down what they were promised: for each event, the place and the leaf that the answer named.

An event is made from its number alone, so that whoever sends it, and however often, sends the same.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

BEGIN = datetime(2026, 10, 1, tzinfo=UTC)
ORGS = 7
MODELS = ("gpt-4o", "gpt-4.1-mini", "o3")
TAKEN = ("accepted", "duplicate")


class Promise(NamedTuple):
    """What an answer said of an event that it called accepted or a duplicate."""

    org_id: str
    seq: int
    leaf: str
    cost_usd: str | None


def event(number: int) -> dict[str, Any]:
    """The event of that number."""
    return {
        "org_id": f"org-{number % ORGS}",
        "request_id": f"r{number}",
        "time": (BEGIN + timedelta(seconds=number)).isoformat(),
        "user_id": f"user-{number % 97}",
        "session_id": f"session-{number // 5}",
        "feature": ("chat", "search")[number % 2],
        "environment": "production",
        "provider": "openai",
        "model": MODELS[number % len(MODELS)],
        "meters": {"tokens_in": number % 5000, "tokens_out": number % 311},
    }


@dataclass
class Ledger:
    """What every sender together knows: numbers not yet sent, those under way, and the promises so far."""

    random: random.Random
    promises: dict[int, Promise] = field(default_factory=dict)
    unanswered: set[int] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)
    resent: int = 0
    _next: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> list[int]:
        """Numbers to send in one request: new ones, some that had no answer, some that were promised before."""
        with self._lock:
            fresh = range(self._next, self._next + self.random.choice((1, 1, 5, 40)))
            self._next = fresh.stop
            again = self._some(list(self.unanswered)) + self._some(list(self.promises))
            chosen = [*fresh, *again]
            chosen += self._some(chosen)  # also twice in one batch
            self.unanswered.update(fresh)
            self.resent += len(chosen) - len(fresh)
            self.random.shuffle(chosen)
            return chosen

    def _some(self, numbers: list[int]) -> list[int]:
        return self.random.sample(numbers, min(len(numbers), self.random.choice((0, 0, 1, 10))))

    def note(self, numbers: list[int], results: list[dict[str, Any]]) -> None:
        """Take down an answer; a promise that differs from an earlier one is a broken one."""
        with self._lock:
            if len(numbers) != len(results):
                self.broken.append(f"{len(results)} results for {len(numbers)} events")
            for number, result in zip(numbers, results, strict=False):
                if result["status"] not in TAKEN:
                    self.broken.append(f"event {number}: {result}")
                    continue
                promise = Promise(result["org_id"], result["seq"], result["leaf"], result["cost_usd"])
                if self.promises.setdefault(number, promise) != promise:
                    self.broken.append(f"event {number}: {promise}, and before {self.promises[number]}")
                self.unanswered.discard(number)


def send_until_it_dies(port: int, ledger: Ledger, *, senders: int, requests_max: int) -> None:
    """Send from several connections until the server is gone, or each has sent so many requests."""
    threads = [threading.Thread(target=_send, args=(port, ledger, requests_max)) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _send(port: int, ledger: Ledger, requests_max: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        for _ in range(requests_max):
            numbers = ledger.take()
            body = json.dumps([event(number) for number in numbers])
            connection.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            document = json.loads(answer.read())
            if answer.status == 200:
                ledger.note(numbers, document["results"])
            elif answer.status not in (429, 503):  # asked to wait: the events stay unanswered
                ledger.broken.append(f"{answer.status}: {document}")
    except (OSError, http.client.HTTPException, json.JSONDecodeError):
        return  # it died: what has no answer is sent again
    finally:
        connection.close()
