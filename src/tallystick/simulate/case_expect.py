"""Reading what a step is to answer (`then`), and refusing what no answer could ever be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, get_args

from tallystick.contract.decision import ReasonCode, StepKind
from tallystick.contract.fields import Place
from tallystick.core.instants import format_instant
from tallystick.core.money import format_decimal
from tallystick.simulate.case_amounts import UNKNOWN, credits, pico_of, read_cost, read_pico
from tallystick.simulate.case_model import Expected, Value, Verb

DENIED: Final = tuple(code for code in get_args(ReasonCode) if code != "allowed")
_CODES: Final = get_args(ReasonCode)
_NONE: Final = "none"
Reader = Callable[[Place], Value]
Readers = Mapping[str, "Reader | Readers"]


def _text(place: Place) -> Value:
    return place.text()


def _flag(place: Place) -> Value:
    return place.flag()


def _amount(place: Place) -> Value:
    return credits(read_pico(place))


def _cost(place: Place) -> Value:
    cost_pico = read_cost(place)
    return UNKNOWN if cost_pico is None else credits(cost_pico)


def _instant(place: Place) -> Value:
    return _NONE if place.scalar("an instant, or none").text == _NONE else format_instant(place.instant())


def _names(place: Place) -> Value:
    return place.sequence(Place.text)


def _warned(place: Place) -> Value:
    shares = place.table(lambda _, share: format_decimal(share.share()))
    return tuple(f"{name}: {share}" for name, share in shares.items())


def _choice(*options: str) -> Reader:
    return lambda place: place.choice(options)


_NEXT_STEP: Readers = {
    "kind": _choice(*get_args(StepKind)),
    "plan": _text,
    "model": _text,
    "until": _instant,
    "credits": _amount,
}
_VERDICT: Readers = {
    "decision": _choice("allow", "deny"),
    "code": _choice(*_CODES),
    "next_step": _NEXT_STEP,
}
_WALLET: Readers = {"available": _amount, "held": _amount}
_ANY: Readers = {"wallet": _WALLET, "error": _text}
_BACK: Readers = {"returned": _amount, "expired": _amount}

MEMBERS: Mapping[Verb, Readers] = MappingProxyType(
    {
        "authorize": {
            **_VERDICT,
            "says": _text,
            "quoted": _amount,
            "reserved": _amount,
            "worst_cost_usd": _cost,
            "repeat": _flag,
            "exceeded": _names,
            "warned": _warned,
            "overridden": _flag,
            "shadow": _flag,
            "enforced": _VERDICT,
            **_ANY,
        },
        "settle": {
            "says": _text,
            "charged": _amount,
            "rounding": _amount,
            "overage": _amount,
            "owed": _amount,
            "cost_usd": _amount,
            "finished": _flag,
            **_BACK,
            **_ANY,
        },
        "release": {**_BACK, **_ANY},
        "refund": {"refunded": _amount, "no_longer_owed": _amount, **_BACK, **_ANY},
        "record": _ANY,
        "grant": _ANY,
        "wait": _ANY,
    }
)
"""By what a step does, the members that can be expected of its answer."""


def read_expected(place: Place, verb: Verb) -> Expected:
    """The `then` of a step that does that; what contradicts itself is noted as `case_contradiction`."""
    members: dict[str, Value] = {}
    foreign = _foreign(place, verb)
    _read(place, {**MEMBERS[verb], **foreign}, "", members)
    if foreign:
        return Expected({}, place.line)
    if not members and not place.problems:
        place.note("missing_value", "nothing is expected here, so that nothing could fail")
    for sentence in contradictions(members):
        place.note("case_contradiction", sentence)
    return Expected(members, place.line)


def _foreign(place: Place, verb: Verb) -> Readers:
    """What is expected here, and is only ever answered to a step of another kind: noted."""
    found: dict[str, Reader | Readers] = {}
    for other, readers in MEMBERS.items():
        for name, reader in readers.items():
            if name not in MEMBERS[verb] and name not in found and place.has(name):
                found[name] = reader
                what = f"{verb} is not answered with {name!r}; {other} is"
                place.child(name).note("case_contradiction", what)
    return found


def _read(place: Place, readers: Readers, prefix: str, members: dict[str, Value]) -> None:
    fields = place.fields(*readers)
    for name, reader in readers.items():
        if name not in fields.given:
            continue
        if callable(reader):
            value = fields.get(name, reader, None)
            if value is not None:
                members[f"{prefix}{name}"] = value
        else:
            fields.get(name, partial(_read, readers=reader, prefix=f"{prefix}{name}.", members=members), None)


def contradictions(expected: Mapping[str, Value]) -> list[str]:
    """Why no answer can ever be as the members say, in sentences; none when one can."""
    found = []
    if "error" in expected and len(expected) > 1:
        others = sorted(name for name in expected if name != "error" and not name.startswith("wallet."))
        if others:
            found.append(f"it is refused with the error {expected['error']}, so there is no {others[0]}")
    found += _verdict(expected, "")
    found += [f"of `enforced`, {sentence}" for sentence in _verdict(expected, "enforced.")]
    found += _shadowed(expected)
    if expected.get("decision") == "deny" and expected.get("reserved", "0") != "0":
        found.append(f"it is denied, and reserves {expected['reserved']} credits; a denial reserves nothing")
    if _more(expected, "reserved", "quoted"):
        found.append(f"more is reserved, {expected['reserved']}, than is quoted, {expected['quoted']}")
    if _more(expected, "rounding", "charged"):
        found.append(f"the rounding, {expected['rounding']}, is more than is charged, {expected['charged']}")
    if _more(expected, "overage", "charged"):
        found.append(f"the overage, {expected['overage']}, is more than is charged, {expected['charged']}")
    if _more(expected, "expired", "returned"):
        found.append(f"more has expired, {expected['expired']}, than goes back, {expected['returned']}")
    return found


def _verdict(expected: Mapping[str, Value], prefix: str) -> list[str]:
    decision, code = expected.get(f"{prefix}decision"), expected.get(f"{prefix}code")
    kind, found = expected.get(f"{prefix}next_step.kind"), []
    if decision == "allow" and code not in (None, "allowed"):
        found.append(f"it is allowed, and {code} is a reason to deny")
    if decision == "deny" and code == "allowed":
        found.append("it is denied, and the code is allowed")
    denied = decision == "deny" or (code is not None and code != "allowed")
    allowed = decision == "allow" or code == "allowed"
    if denied and not allowed and kind == "none":
        found.append("it is denied, and a denial always has a next step")
    if allowed and not denied and kind not in (None, "none"):
        found.append(f"it is allowed, so that there is no next step such as {kind}")
    for member, fitting in _FITTING.items():
        if expected.get(f"{prefix}next_step.{member}", _NONE) != _NONE and kind is not None and kind not in fitting:
            found.append(f"a next step {kind} names no {member}")
    return found


_FITTING: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"plan": ("upgrade",), "model": ("use_model",), "credits": ("top_up",), "until": ("wait", "upgrade")}
)


def _shadowed(expected: Mapping[str, Value]) -> list[str]:
    found = []
    enforced = any(name.startswith("enforced.") for name in expected)
    if expected.get("shadow") is False and enforced:
        found.append("it is not in shadow mode, so that `enforced` says nothing")
    if (expected.get("shadow") is True or enforced) and expected.get("decision") == "deny":
        found.append("shadow mode lets everything pass; what would be denied stands under `enforced`")
    return found


def _more(expected: Mapping[str, Value], one: str, than: str) -> bool:
    """Whether both amounts are expected, and the first is more than the second."""
    first, second = expected.get(one), expected.get(than)
    if not isinstance(first, str) or not isinstance(second, str):
        return False
    return pico_of(first) > pico_of(second)
