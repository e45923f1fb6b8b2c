"""A ledger entry as it is stored, the bytes that its leaf is the hash of, and the fact and cost that it holds.

    leaf     = SHA-256(0x00 ‖ preimage)                    a leaf of RFC 9162
    preimage = {"entry": E, "seq": N, "time_max": "…Z"}    RFC 8785 JSON

    E of usage      {"cost": C, "fact": core, "fingerprint": hex, "kind": "usage", "recorded_at": "…Z"}
    E of correction {"cost": C, "kind": "correction", "org_id": …, "payer"?: "customer", "recorded_at": "…Z",
                     "refers_to_seq": N, "request_id": …, "time": "…Z"}
    E of operation  {"action"?: …, "api_key_id"?: …, "body": B, "environment"?: …, "feature"?: …, "fingerprint": hex,
                     "kind": …, "model"?: …, "org_id": …, "provider"?: …, "rate_version": …, "recorded_at": "…Z",
                     "refers_to_seq"?: N, "request_id": …, "time": "…Z"}
    C               {"lines": {"amount_pico": […], "meters": […], "models": […]?, "per": […], "price_pico": […],
                     "quantities": […]}, "rate_version": …, "reason"?: …, "status": …, "total_pico": …}

Lines are parallel arrays in the entry's own order. All integers in C are strings of digits, since an amount may be
larger than JSON keeps exactly; those that have no rate are null, and so is the total of an unpriced entry. `models`
is left out where no line names one, `reason` where there is none. `core` is that of `ledger.encoding`, B the body
of `ledger.operation_body`; an operation's kind is one of `OPERATION_KINDS`, and it has neither cost nor lines. E
needs neither the sequence nor the personal data: that of usage is written before the org's head is locked, and
each outlives an erasure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

import msgspec

from tallystick.ledger.encoding import core_json, event_fingerprint, operation_fingerprint, personal_json
from tallystick.ledger.operation_entry import body_request, operation_json
from tallystick.ledger.operations import OperationKind
from tallystick.rates.model import CostLine
from tallystick.usage.event import UsageEvent

ERASED = "erased"
"""What `entry_event` says in the place of a user and a session that were erased."""

OPERATION_KINDS = frozenset(get_args(OperationKind))
"""The kinds of entries that are neither usage nor corrections: what happens to an org's account."""

FREE: Mapping[str, Any] = MappingProxyType(
    {
        "status": "final",
        "cost_pico": 0,
        "line_meters": (),
        "line_quantities": (),
        "line_price_pico": (),
        "line_per": (),
        "line_amount_pico": (),
    }
)
"""The columns that say of an operation that it cost nothing. Its leaf leaves them out: they are never otherwise."""

_TEMPLATES_MAX = 1 << 14
_OPERATION_TEXTS = ("action", "api_key_id", "environment", "feature", "model", "provider")
_text = msgspec.json.encode
_Integers = tuple[int | None, ...]
_Texts = tuple[str | None, ...]


class Entry(NamedTuple):
    """One row of `ledger_entries`: all columns, in the table's order. The schema says what each means.

    Arrays are sequences of any kind, instants aware and in UTC, `price_context` and `attributes` plain tables.
    """

    org_id: str
    seq: int
    kind: str
    request_id: str
    time: datetime
    time_max: datetime
    recorded_at: datetime
    feature: str | None
    environment: str | None
    provider: str | None
    model: str | None
    api_key_id: str | None
    action: str | None
    latency_ms: int | None
    outcome: str | None
    usage_status: str | None
    meter_names: Sequence[str] | None
    meter_quantities: Sequence[int] | None
    price_context: Mapping[str, str] | None
    provider_cost_pico: int | None
    payer: str | None
    user_id: str | None
    session_id: str | None
    attributes: Mapping[str, str] | None
    salt: bytes | None
    fingerprint: bytes | None
    rate_version: str
    status: str
    cost_pico: int | None
    line_meters: Sequence[str]
    line_quantities: Sequence[int]
    line_price_pico: Sequence[int | None]
    line_per: Sequence[int | None]
    line_amount_pico: Sequence[int | None]
    line_models: Sequence[str | None] | None
    refers_to_seq: int | None
    reason: str | None
    body: str | None
    leaf: bytes


ENTRY_COLUMNS = Entry._fields
"""The table's columns, in order."""


def entry_leaf(entry: Entry) -> bytes:
    """The leaf (32 bytes) that the entry's columns make; that it equals `entry.leaf` is what a check is for."""
    return hashlib.sha256(b"\x00" + entry_preimage(entry)).digest()


def entry_preimage(entry: Entry) -> bytes:
    """The canonical JSON that the entry's leaf is the hash of.

    Raises:
        TypeError, ValueError: the row holds what no entry may hold; something changed it from outside.
    """
    return preimage(_entry_json(entry), entry.seq, instant_json(entry.time_max))


def preimage(entry_json: bytes, seq: int, time_max: bytes) -> bytes:
    """The leaf's preimage from its parts; `time_max` as `instant_json` gives it."""
    return b'{"entry":%b,"seq":%d,"time_max":%b}' % (entry_json, seq, time_max)


def instant_json(instant: datetime) -> bytes:
    """An instant as a JSON string."""
    return _text(instant)


def _entry_json(entry: Entry) -> bytes:
    return _operation_json(entry) if entry.kind in OPERATION_KINDS else _priced_json(entry)


def _operation_json(entry: Entry) -> bytes:
    texts = {name: getattr(entry, name) for name in _OPERATION_TEXTS}
    if entry.body is None or entry.fingerprint is None:
        raise TypeError("an operation has a body and a fingerprint")
    return operation_json(
        entry.kind,
        entry.org_id,
        entry.request_id,
        entry.body.encode(),
        entry.fingerprint,
        entry.rate_version,
        _text(entry.recorded_at),
        _text(entry.time),
        entry.refers_to_seq,
        **texts,
    )


def _priced_json(entry: Entry) -> bytes:
    amounts, total = entry.line_amount_pico, entry.cost_pico
    template = entry_template(
        entry.kind,
        tuple(entry.line_meters),
        tuple(entry.line_price_pico),
        tuple(entry.line_per),
        None if entry.line_models is None else tuple(entry.line_models),
        unknown(amounts),
        entry.rate_version,
        entry.status,
        entry.reason,
        total is not None,
        entry.payer,
    )
    totals = () if total is None else (total,)
    cost = (*known(amounts), *entry.line_quantities, *totals)
    recorded_at = _text(entry.recorded_at)
    if entry.kind == "usage":
        core, digest = core_json(_fact(entry)), entry.fingerprint or b""
        return template % (*cost, core, digest.hex().encode(), recorded_at)
    ids = (_text(entry.org_id), recorded_at, entry.refers_to_seq, _text(entry.request_id), _text(entry.time))
    return template % (*cost, *ids)


def unknown(amounts: Sequence[int | None]) -> tuple[bool, ...] | None:
    """Which lines have no amount; None where all have one."""
    return tuple([amount is None for amount in amounts]) if None in amounts else None


def known(amounts: Sequence[int | None]) -> list[int]:
    """The amounts that there are."""
    return [amount for amount in amounts if amount is not None]


@lru_cache(maxsize=_TEMPLATES_MAX)
def entry_template(
    kind: str,
    meters: tuple[str, ...],
    price_pico: _Integers,
    per: _Integers,
    models: _Texts | None,
    unknown: tuple[bool, ...] | None,
    rate_version: str,
    status: str,
    reason: str | None,
    priced: bool,
    payer: str | None = None,
) -> bytes:
    """E with a place (for bytes' `%`) for all that differs from entry to entry priced alike.

    The places are, in order: each known amount, each quantity, the total when priced; then for usage the core, the
    fingerprint in hex and `recorded_at`, for a correction `org_id`, `recorded_at`, `refers_to_seq`, `request_id` and
    `time`. What is text is given as JSON, numbers as integers. `payer` is a correction's; that of usage is in the core.
    """
    lines = [f'"amount_pico":{_places(unknown or (False,) * len(meters))}', f'"meters":{_constant(list(meters))}']
    if models is not None:
        lines.append(f'"models":{_constant(list(models))}')
    lines += [f'"per":{_constant(_digits(per))}', f'"price_pico":{_constant(_digits(price_pico))}']
    lines.append(f'"quantities":{_places((False,) * len(meters))}')
    cost = [f'"lines":{{{",".join(lines)}}}', f'"rate_version":{_constant(rate_version)}']
    if reason is not None:
        cost.append(f'"reason":{_constant(reason)}')
    cost += [f'"status":{_constant(status)}', f'"total_pico":{_places((not priced,))[1:-1]}']
    if kind == "usage":
        rest = '"fact":%b,"fingerprint":"%b","kind":"usage","recorded_at":%b'
    else:
        paid = "" if payer is None else f'"payer":{_constant(payer)},'
        rest = (
            f'"kind":{_constant(kind)},"org_id":%b,{paid}"recorded_at":%b,"refers_to_seq":%d,"request_id":%b,"time":%b'
        )
    return f'{{"cost":{{{",".join(cost)}}},{rest}}}'.encode()


def _places(unknown: tuple[bool, ...]) -> str:
    return "[" + ",".join("null" if one else '"%d"' for one in unknown) + "]"


def _constant(value: object) -> str:
    return _text(value).decode().replace("%", "%%")


def _digits(values: _Integers) -> list[str | None]:
    return [None if value is None else str(value) for value in values]


def entry_event(entry: Entry) -> UsageEvent | None:
    """The raw fact that a usage entry holds; None for a correction and an operation.

    Where the personal data was erased, `user_id` and `session_id` say `ERASED` and there are no attributes: enough
    to price it again. `salt` is null then, and says so for certain.
    """
    return _fact(entry) if entry.kind == "usage" else None


def _fact(entry: Entry) -> UsageEvent:
    """The fact, as strictly as it was written: what reads alike but is stored otherwise is no entry of ours."""
    names, quantities = entry.meter_names or (), entry.meter_quantities or ()
    if any(one >= following for one, following in pairwise(names)):
        raise ValueError("meters stand in the order of their names, each once")
    if not isinstance(entry.price_context, Mapping):
        raise TypeError("price_context is a table")
    return UsageEvent(
        org_id=entry.org_id,
        request_id=entry.request_id,
        time=entry.time,
        user_id=ERASED if entry.user_id is None else entry.user_id,
        session_id=ERASED if entry.session_id is None else entry.session_id,
        feature=entry.feature,  # type: ignore[arg-type]
        environment=entry.environment,  # type: ignore[arg-type]
        model=entry.model,  # type: ignore[arg-type]
        meters=dict(zip(names, quantities, strict=True)),
        provider=entry.provider,
        api_key_id=entry.api_key_id,
        action=entry.action,
        latency_ms=entry.latency_ms,
        outcome=entry.outcome,  # type: ignore[arg-type]
        usage_status=entry.usage_status,  # type: ignore[arg-type]
        price_context=dict(entry.price_context or {}),
        provider_cost_pico=entry.provider_cost_pico,
        payer="seller" if entry.payer is None else entry.payer,  # type: ignore[arg-type]
        attributes=dict(entry.attributes or {}),
    )


def entry_fingerprint(entry: Entry) -> bytes | None:
    """The fingerprint that the entry's columns make; None for a correction, and where an erasure has taken the salt.

    Raises:
        TypeError, ValueError: the row holds what no entry may hold.
    """
    if entry.kind == "correction" or entry.salt is None:
        return None
    if not isinstance(entry.attributes, Mapping):
        raise TypeError("attributes are a table")
    if entry.kind in OPERATION_KINDS:
        request = body_request((entry.body or "").encode())
        personal = personal_json(entry.session_id, entry.user_id, entry.attributes)
        return operation_fingerprint(entry.salt, entry.kind, entry.org_id, entry.request_id, request, personal)
    return event_fingerprint(_fact(entry), entry.salt)


def entry_lines(entry: Entry) -> tuple[CostLine, ...]:
    """The lines of the entry's cost."""
    models = entry.line_models or (None,) * len(entry.line_meters)
    columns = (entry.line_meters, entry.line_quantities, entry.line_price_pico, entry.line_per, entry.line_amount_pico)
    return tuple(CostLine(*line) for line in zip(*columns, models, strict=True))
