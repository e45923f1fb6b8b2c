"""Taking in events: each is checked and stored on its own merits, and told what became of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime

from tallystick.app.event_results import EventResult, Refused, results_of
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, Problems, TallyError, Unavailable
from tallystick.ledger.receipt import Receipt
from tallystick.usage.batch_checks import all_sound, check_events
from tallystick.usage.cloudevents import event_of_cloudevent, is_cloudevent
from tallystick.usage.event import UsageEvent
from tallystick.usage.event_problems import TEXT_CHARS_MAX

BATCH_EVENTS = 4000
"""Events that are handed to the journal together: the fixed cost is shared, and no org is locked for long."""
BUSY_SECONDS_MAX = 30
"""How long the rest of a request may wait for room in the journal's queue once its beginning is in."""
_BUSY_PAUSE_SECONDS = 0.02
_UNDER_WAY_MAX = 2  # batches of one request: one is written while the next is encoded


def ingest_events(
    runtime: Runtime, items: Iterable[object], *, cloudevents: bool | None = None, batch_events: int = BATCH_EVENTS
) -> list[EventResult]:
    """Check and store events; one result for each, in order. What was accepted is on disk when this returns.

    Args:
        runtime: an open one.
        items: decoded JSON values, or a `BadInput` in the place of one that could not be read.
        cloudevents: whether the items are CloudEvents; None looks at each.
        batch_events: how many are handed to the journal together.

    Raises:
        Unavailable: the database is gone, or the journal is busy; some may be stored, and sending all again is safe.
    """
    checked = check_items(runtime, items, cloudevents=cloudevents)
    return results_of(checked, store_sound(runtime, sound_ones(checked), batch_events=batch_events))


def check_items(
    runtime: Runtime, items: Iterable[object], *, cloudevents: bool | None = None
) -> list[UsageEvent | Refused]:
    """Each item as a sound event, or what is wrong with it."""
    sent = list(items)
    now, known_meters = runtime.clock(), runtime.known_meters()
    if not cloudevents:
        events = all_sound(sent, now=now, known_meters=known_meters)
        if events is not None:
            return list(events)
    raws = sent if cloudevents is False else [_unpacked(item, cloudevents) for item in sent]
    checked: Sequence[UsageEvent | TallyError] = check_events(raws, now=now, known_meters=known_meters)
    if any(map(_mentions_unknown_meter, checked)):
        checked = _check_again(runtime, raws, checked, now)
    if any(map(_mentions_future, checked)):
        checked = [_by_own_clock(runtime, *one, known_meters, now) for one in zip(raws, checked, strict=True)]
    for event in checked:
        if isinstance(event, TallyError):
            runtime.event_counts["rejected", event.code] += 1
    return [
        Refused(event, _request_id(item)) if isinstance(event, TallyError) else event
        for event, item in zip(checked, sent, strict=True)
    ]


def _check_again(
    runtime: Runtime, raws: Sequence[object], checked: Sequence[UsageEvent | TallyError], now: datetime
) -> Sequence[UsageEvent | TallyError]:
    """Check once more: a contract that declares an unknown meter may have been applied since the meters were read."""
    try:
        return check_events(raws, now=now, known_meters=runtime.known_meters(reload=True))
    except Unavailable as error:
        if not runtime.spools:
            raise
        # Its sender comes again when the meters can be read; the others need not wait for that.
        return [error if _mentions_unknown_meter(event) else event for event in checked]


def _by_own_clock(
    runtime: Runtime, raw: object, checked: UsageEvent | TallyError, known_meters: frozenset[str], now: datetime
) -> UsageEvent | TallyError:
    """What is ahead of the machine's clock, of an org whose own clock is: it is checked by that."""
    if not _mentions_future(checked) or not isinstance(raw, Mapping):
        return checked
    its_now = runtime.now(str(raw.get("org_id")))
    return check_events([raw], now=its_now, known_meters=known_meters)[0] if its_now > now else checked


def sound_ones(checked: Iterable[UsageEvent | Refused]) -> list[UsageEvent]:
    """Those that can be stored, in order."""
    return [event for event in checked if isinstance(event, UsageEvent)]


def store_sound(runtime: Runtime, events: Sequence[UsageEvent], *, batch_events: int = BATCH_EVENTS) -> list[Receipt]:
    """Store events, `batch_events` at a time; their receipts in order. A full queue is waited for once some are in.

    Raises:
        Unavailable: the database is gone, or the journal is busy; some may be stored, and sending all again is safe.
    """
    receipts: list[Receipt] = []
    under_way: deque[Future[list[Receipt]]] = deque()
    for start in range(0, len(events), batch_events):
        if len(under_way) == _UNDER_WAY_MAX:
            receipts += under_way.popleft().result()
        under_way.append(_submit(runtime, events[start : start + batch_events], patient=start > 0))
    for future in under_way:
        receipts += future.result()
    return receipts


def _submit(runtime: Runtime, events: Sequence[UsageEvent], *, patient: bool) -> Future[list[Receipt]]:
    deadline = time.monotonic() + (BUSY_SECONDS_MAX if patient else 0)
    while True:
        try:
            return runtime.submit(events)
        except Unavailable as error:
            if error.code != "journal_busy" or time.monotonic() >= deadline:
                raise
        time.sleep(_BUSY_PAUSE_SECONDS)


def _unpacked(item: object, cloudevents: bool | None) -> object:
    """The raw event that an item is or, as a CloudEvent, holds; a `BadInput` when it is none."""
    try:
        is_one = cloudevents or (cloudevents is None and is_cloudevent(item))
        return event_of_cloudevent(item) if is_one and not isinstance(item, BadInput) else item
    except BadInput as error:
        return error.with_traceback(None)  # it is kept; the frames that it came through need not be


def _request_id(item: object) -> str | None:
    found = item.get("request_id") if isinstance(item, Mapping) else None
    return found[:TEXT_CHARS_MAX] if isinstance(found, str) and found.isprintable() else None


def _mentions_unknown_meter(event: UsageEvent | TallyError) -> bool:
    return _mentions("unknown_meter", event)


def _mentions_future(event: UsageEvent | TallyError) -> bool:
    return _mentions("time_in_future", event)


def _mentions(code: str, event: UsageEvent | TallyError) -> bool:
    if not isinstance(event, TallyError):
        return False
    problems = event.problems if isinstance(event, Problems) else (event,)
    return any(problem.code == code for problem in problems)
