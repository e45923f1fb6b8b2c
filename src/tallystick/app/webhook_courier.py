"""Sending webhooks: what is due is claimed, attempted side by side, and each outcome is written down.

    claim (skips what others are claiming) ─► sign ─► post ─► delivered, tried again later, or failed

A delivery is attempted at least once, perhaps more often: whoever is killed between posting and writing it down leaves
a claim, which is free again after `LEASE`. Each attempt has a thread of its own, an endpoint a few of them at most, and
a failing one a single one: whoever is slow keeps nobody else waiting.
"""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from tallystick import __version__
from tallystick.app.runtime import Runtime
from tallystick.app.settings import Settings
from tallystick.app.webhook_http import Answer, Failure, Resolve, post, resolve, tls_context
from tallystick.app.webhook_secrets import SecretBox, open_box, sign
from tallystick.core.errors import TallyError
from tallystick.core.instants import format_instant
from tallystick.core.key_shapes import without_secrets
from tallystick.core.webhook_schedule import pause_after
from tallystick.journal.database import Connection
from tallystick.journal.steps import reached
from tallystick.journal.webhook_deliveries import (
    Attempt,
    Claimed,
    claim_due,
    claim_one,
    disable,
    end_attempt,
    is_any_due,
    note_unwell,
    note_well,
)
from tallystick.journal.webhook_endpoints import SealedSecret, secrets_of
from tallystick.journal.webhooks import enqueue_event
from tallystick.wire.webhook_address import parse_allow_list, parse_target

LEASE = timedelta(seconds=90)
"""For how long a claim holds: longer than any attempt takes."""
AT_ONCE = 16
"""How many attempts one process makes at a time."""
PER_ENDPOINT = 4
"""How many of one endpoint, all processes together."""
PER_OWNER = 8
"""How many of all endpoints of one org, or of operators': whoever has many slow ones leaves room for the others."""
FAILURES_MIN = 10
"""An endpoint is disabled after days of nothing but failure, and so many of them."""
_GONE = 410
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves or hides text where it is shown."""
_HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")
_log = logging.getLogger("tallystick.webhooks")


def body_of(event_type: str, at: datetime, data: str) -> bytes:
    """What is posted: canonical JSON of the event's data, when it happened, and its type."""
    return f'{{"data":{data},"timestamp":"{format_instant(at)}","type":"{event_type}"}}'.encode()


@dataclass(slots=True)
class Courier:
    """See the module; for one thread, which has the others do the attempts.

    Attributes:
        resolver: what addresses a host has.
        delivered, failed: how many attempts went well, and how many did not.
    """

    runtime: Runtime
    resolver: Resolve = resolve
    delivered: int = 0
    failed: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _busy: int = 0

    def look(self) -> int:
        """Begin attempts of what is due, as far as there is room; how many.

        Raises:
            BadInput, NotFound: the key of the secrets cannot be had, see `open_box`; `invalid_setting`.
            Unavailable: `database_unreachable`.
        """
        room = AT_ONCE - self._busy
        if room <= 0:
            return 0
        now = self.runtime.clock()
        with self.runtime.database.operator() as connection:
            if not is_any_due(connection, now):
                return 0
            box = _open(self.runtime.settings, connection)  # before anything is claimed that could not be sent
        with self.runtime.database.writer() as connection:
            claimed = claim_due(
                connection,
                now=now,
                until=now + LEASE,
                claim=_claim(),
                most=room,
                per_endpoint=PER_ENDPOINT,
                per_owner=PER_OWNER,
            )
            kept = _secrets(connection, claimed)
        reached("webhooks.claimed")
        for one in claimed:
            with self._changed:
                self._busy += 1
            threading.Thread(
                target=self._attempt, args=(one, box, kept[one.endpoint_id]), name="tally-webhook", daemon=True
            ).start()
        return len(claimed)

    def pause(self, seconds: float) -> bool:
        """Wait until an attempt ends, for so long at most; whether any was under way."""
        with self._changed:
            was_busy = self._busy > 0
            if was_busy:
                self._changed.wait(seconds)
            return was_busy

    def deliver_all(self, is_stopping: Callable[[], bool] = lambda: False) -> tuple[int, int]:
        """Attempt what is due until nothing is; how many attempts went well, and how many did not."""
        while not is_stopping():
            was_busy = self._busy > 0  # what ends after the look may have made room
            if not self.look() and not self.pause(1) and not was_busy:
                break
        self.finish(LEASE.total_seconds())
        return self.delivered, self.failed

    def finish(self, seconds: float) -> None:
        """Wait for what is under way, for so long at most: then its claims end by themselves."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.pause(until - time.monotonic()):
            pass

    def deliver_one(self, delivery_id: str) -> None:
        """Attempt one delivery now, unless somebody else does."""
        now = self.runtime.clock()
        with self.runtime.database.writer() as connection:
            box = _open(self.runtime.settings, connection)
            claimed = claim_one(connection, delivery_id, until=now + LEASE, claim=_claim())
            kept = [] if claimed is None else secrets_of(connection, [claimed.endpoint_id])
        if claimed is not None:
            attempt_delivery(self.runtime, claimed, box, kept, self.resolver)

    def _attempt(self, claimed: Claimed, box: SecretBox, kept: Sequence[SealedSecret]) -> None:
        went_well = False
        try:
            went_well = attempt_delivery(self.runtime, claimed, box, kept, self.resolver)
        except TallyError as error:  # the claim ends by itself, and the delivery is attempted again
            _log.warning("what came of %s could not be written down: %s", claimed.delivery_id, error.detail)
        except Exception:
            _log.exception("%s could not be attempted", claimed.delivery_id)
        finally:
            with self._changed:
                self._busy -= 1
                self.delivered += went_well
                self.failed += not went_well
                self._changed.notify_all()


def attempt_delivery(
    runtime: Runtime, claimed: Claimed, box: SecretBox, kept: Sequence[SealedSecret], resolver: Resolve = resolve
) -> bool:
    """Attempt a claimed delivery, and write down what came of it; whether it went well.

    Args:
        kept: the endpoint's secrets, the newest first.

    Raises:
        Unavailable: `database_unreachable`: it cannot be written down.
    """
    started_at, began = runtime.clock(), time.monotonic()
    answer: Answer | None = None
    error: str | None = None
    try:
        answer = _post(runtime.settings, claimed, box, kept, started_at, resolver)
    except Failure as failure:
        error = str(failure)
    except TallyError as refused:
        if refused.code == "database_unreachable":
            raise
        error = f"{refused.detail} [{refused.code}]"
    latency_ms = int((time.monotonic() - began) * 1000)
    reached("webhooks.posted")
    status = None if answer is None else answer.status
    if status is not None and not 200 <= status < 300:
        error = "the endpoint is gone" if status == _GONE else f"answered {status}"
        if 300 <= status < 400:
            error += ": redirects are not followed"
    attempt = Attempt(
        claimed.attempt, started_at, latency_ms, status, error, "" if answer is None else excerpt(answer.body)
    )
    _write_down(runtime, claimed, attempt, None if answer is None else answer.retry_after)
    return error is None


def excerpt(body: bytes) -> str:
    """The beginning of an answer as text that can be kept and shown anywhere."""
    return without_secrets(_CONTROL.sub("\ufffd", body.decode("utf-8", "replace")))


def _post(
    settings: Settings,
    claimed: Claimed,
    box: SecretBox,
    kept: Sequence[SealedSecret],
    now: datetime,
    resolver: Resolve,
) -> Answer:
    allow = parse_allow_list(settings.webhook_allow)
    target = parse_target(claimed.url, allow)
    body = body_of(claimed.type, claimed.at, claimed.data)
    headers = {"Content-Type": "application/json", "User-Agent": f"Tallystick/{__version__}", "Accept": "*/*"}
    headers |= sign(box, kept, now, event_id=claimed.event_id, body=body)
    return post(target, body, headers, allow=allow, context=tls_context(settings.webhook_ca_file), resolver=resolver)


def _open(settings: Settings, connection: Connection) -> SecretBox:
    """The key of the secrets, once it is known that what the operator has set can be read."""
    parse_allow_list(settings.webhook_allow)
    tls_context(settings.webhook_ca_file)
    return open_box(settings, connection)


def _secrets(connection: Connection, claimed: Sequence[Claimed]) -> dict[str, list[SealedSecret]]:
    found: dict[str, list[SealedSecret]] = {one.endpoint_id: [] for one in claimed}
    for sealed in secrets_of(connection, found) if found else ():
        found[sealed.endpoint_id].append(sealed)
    return found


def _write_down(runtime: Runtime, claimed: Claimed, attempt: Attempt, retry_after: str | None) -> None:
    now = runtime.clock()
    state, next_at = "delivered", None
    if attempt.error is not None:
        is_last = claimed.attempt >= claimed.attempts_max or attempt.status == _GONE
        state = "failed" if is_last else "waiting"
        if not is_last:
            drawn = int.from_bytes(os.urandom(4)) / 2**32
            next_at = now + pause_after(claimed.attempt, drawn, seconds_asked(retry_after, now))
    with runtime.database.writer() as connection:
        end_attempt(connection, claimed, attempt, state=state, next_at=next_at, now=now)
        if attempt.error is None:
            note_well(connection, claimed.endpoint_id)
            return
        since, failures = note_unwell(connection, claimed.endpoint_id, now)
        reason = _reason_to_end(runtime, attempt, since, failures, now)
        if reason is not None and disable(connection, claimed.endpoint_id, reason, now):
            data: dict[str, Any] = {"endpoint_id": claimed.endpoint_id, "org_id": claimed.org_id, "reason": reason}
            data |= {"failing_since": format_instant(since), "failures": failures, "last_error": attempt.error}
            key = f"{claimed.endpoint_id} {format_instant(now)}"
            enqueue_event(connection, org_id=None, type="webhook.disabled", key=key, data=data, at=now)
            _log.error("endpoint %s is disabled: %s", claimed.endpoint_id, reason)


def _reason_to_end(runtime: Runtime, attempt: Attempt, since: datetime, failures: int, now: datetime) -> str | None:
    if attempt.status == _GONE:
        return "it answered 410: it is gone"
    days = runtime.settings.webhook_failing_days
    if failures >= FAILURES_MIN and now - since >= timedelta(days=days):
        return f"nothing but failure for {days} days"
    return None


def seconds_asked(retry_after: str | None, now: datetime) -> int | None:
    """What `Retry-After` asks for: a number of seconds, or a date of HTTP's (RFC 9110, 10.2.3)."""
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return int(text)
    if not _HTTP_DATE.fullmatch(text):
        return None
    try:
        return max(0, math.ceil((parsedate_to_datetime(text) - now).total_seconds()))
    except ValueError:  # no such day
        return None


def _claim() -> str:
    return os.urandom(12).hex()
