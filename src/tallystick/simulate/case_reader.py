"""Reading cases from YAML, as strictly as contracts are read: every mistake at once, each with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple, cast

from tallystick.contract.document import Table, parse_document
from tallystick.contract.fields import Place, did_you_mean
from tallystick.contract.model import Contract
from tallystick.contract.read_actions import OUTCOMES
from tallystick.core.errors import BadInput, Problems
from tallystick.ledger.operations import Authorize
from tallystick.simulate import case_given
from tallystick.simulate.case_amounts import read_cost, read_credits, read_pico
from tallystick.simulate.case_expect import read_expected
from tallystick.simulate.case_given import read_given, read_grant
from tallystick.simulate.case_model import Asked, Case, Refunding, Releasing, Settling, Step, Used, Verb, What
from tallystick.simulate.case_sense import check_sense
from tallystick.usage.event import Outcome, Payer
from tallystick.usage.meters import METERS, QUANTITY_MAX

NEXT_STEP: Final = "mend the cases where each line says, and run them again"
ENVIRONMENT: Final = "production"
FEATURE: Final = "case"
USER: Final = "u1"
_USED: Final = ("meters", "cost_usd", "payer")


def load_cases(text: str, name: str, contract: Contract) -> tuple[Case, ...]:
    """The cases that the text holds, in its order.

    Args:
        text: the whole file, YAML.
        name: what errors call the file.
        contract: what the cases are for.

    Raises:
        Problems: `invalid_cases`, with every error found; each one's `where` is "FILE:LINE: key.path".
    """
    try:
        root, problems = parse_document(text, name, "a file of cases")
    except Problems as error:
        raise _refused(error.problems) from None
    cases = _read(Place(name, "", root.line, root, problems), contract)
    if problems:
        raise _refused(sorted({(_line(one.where), str(one)): one for one in problems}.values(), key=_place))
    return cases


def _refused(problems: Any) -> Problems:
    mended = [
        BadInput(
            "invalid_cases" if one.code == "invalid_contract" else one.code,
            one.detail,
            next_step=NEXT_STEP,
            where=one.where,
        )
        for one in problems
    ]
    return Problems("invalid_cases", mended, next_step=NEXT_STEP)


def _place(problem: BadInput) -> int:
    return _line(problem.where)


def _line(where: str | None) -> int:
    match = re.search(r":(\d+)(?:: |$)", where or "")
    return int(match[1]) if match else 0


def _read(place: Place, contract: Contract) -> tuple[Case, ...]:
    fields = place.fields("contract", "given", "cases")
    about = fields.get("contract", Place.name, contract.name)
    if about != contract.name:
        what = f"these cases are for the contract {about!r}, and are run on {contract.name!r}"
        fields.at("contract").note("case_contradiction", what)
    usual: Mapping[str, Place] = fields.get("given", _children, {})
    if usual:
        read_given(place.child("given"), contract, {})
    none: tuple[Case, ...] = ()
    cases = fields.need("cases", lambda at: at.sequence(partial(_read_case, contract=contract, usual=usual), 1), none)
    first: dict[str, Case] = {}
    for case in cases:
        if case.name in first:
            where = Place(place.file, case.name, case.line, place.node, place.problems)
            where.note("duplicate_key", f"a case on line {first[case.name].line} has the same name")
        first.setdefault(case.name, case)
    return cases


def _children(place: Place) -> dict[str, Place]:
    fields = place.fields(*case_given.KEYS)
    return {name: place.child(name) for name in case_given.KEYS if name in fields.given}


def _read_case(place: Place, contract: Contract, usual: Mapping[str, Place]) -> Case:
    fields = place.fields("name", "given", "when", "then")
    name = fields.need("name", Place.text, "")
    here = place if not name else Place(place.file, name, place.line, place.node, place.problems)
    given = read_given(here.child("given"), contract, usual) if "given" in fields.given else None
    if given is None:
        empty = Place(place.file, name, place.line, Table(place.line, {}), place.problems)
        given = read_given(empty, contract, usual)
    steps = fields.need("when", lambda at: _read_steps(at, contract), ())
    if "then" in fields.given and steps:
        steps = _with_last(here, steps)
    case = Case(name=name, line=place.line, given=given, steps=steps)
    if not any(step.expected for step in steps) and steps:
        here.note("missing_key", "`then` is missing: nothing is expected, so that nothing could fail")
    for line, sentence in check_sense(case, contract):
        Place(place.file, name, line, place.node, place.problems).note("case_contradiction", sentence)
    return case


def _with_last(place: Place, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The case's own `then` is that of its last step."""
    last = steps[-1]
    if last.expected is not None:
        place.child("then").note("case_contradiction", "the last step has a `then` of its own; keep one of the two")
    expected = read_expected(place.child("then"), last.verb)
    return (*steps[:-1], Step(line=last.line, verb=last.verb, what=last.what, after=last.after, expected=expected))


def _read_steps(place: Place, contract: Contract) -> tuple[Step, ...]:
    if isinstance(place.node, Table):
        return (_read_step(place, contract),)
    return place.sequence(partial(_read_step, contract=contract), 1)


class _Way(NamedTuple):
    verb: Verb
    read: Callable[[Place, Contract], What]


def _read_step(place: Place, contract: Contract) -> Step:
    fields = place.fields(*(way.verb for way in _WAYS), "after", "then")
    ways = [way for way in _WAYS if way.verb in fields.given]
    if len(ways) != 1:
        verbs = ", ".join(way.verb for way in _WAYS)
        raise place.refusal("missing_key", f"a step does exactly one of {verbs}")
    ((verb, read),) = ways
    after = fields.get("after", Place.duration, timedelta(0))
    what: What = None
    if verb == "wait":
        after += fields.get("wait", Place.duration, timedelta(0))
    else:
        what = fields.get(verb, lambda at: read(at, contract), None)
    expected = fields.get("then", lambda at: read_expected(at, verb), None)
    return Step(line=place.line, verb=verb, what=what, after=after, expected=expected)


# ── what a step does ────────────────────────────────────────────────────────────────────────────────────────────────


def _read_asked(place: Place, contract: Contract) -> Asked:
    fields = place.fields(
        "as", "action", "model", "provider", "environment", "feature", "user", "api_key", "work_key", "meters",
        "worst_cost_usd", "payer",
    )  # fmt: skip
    request = Authorize(
        feature=fields.get("feature", Place.text, FEATURE),
        environment=fields.get("environment", Place.text, ENVIRONMENT),
        action=fields.get("action", Place.text, None),
        model=fields.get("model", Place.text, None),
        provider=fields.get("provider", Place.text, None),
        api_key_id=fields.get("api_key", Place.text, None),
        work_key=fields.get("work_key", Place.text, None),
        meters=fields.get("meters", lambda at: _read_meters(at, contract), {}),
        payer=fields.get("payer", _read_payer, None),
    )
    return Asked(
        name=fields.get("as", Place.name, None),
        user_id=fields.get("user", Place.text, USER),
        request=request,
        worst_cost_pico=fields.get("worst_cost_usd", read_cost, 0),
    )


def _read_meters(place: Place, contract: Contract) -> dict[str, int]:
    def quantity(name: str, entry: Place) -> int:
        if not contract.knows_meter(name):
            hint = did_you_mean(name, [*contract.meters, *METERS])
            raise entry.refusal("unknown_meter", f"{name[:80]!r} is no meter{hint}")
        found = entry.integer()
        if found > QUANTITY_MAX:
            raise entry.refusal("too_large", f"{found:,} is more than one event holds, {QUANTITY_MAX:,}")
        return found

    return place.table(quantity)


def _read_payer(place: Place) -> Payer:
    return cast(Payer, place.choice(("seller", "customer")))


def _read_settling(place: Place, contract: Contract) -> Settling:
    fields = place.fields("hold", "outcome", "events", "charge_credits", *_USED)
    none: tuple[Used, ...] = ()
    events = fields.get("events", lambda at: at.sequence(lambda one: _read_used(one, contract)), none)
    short = [name for name in _USED if name in fields.given]
    if short and "events" in fields.given:
        place.note("case_contradiction", f"{short[0]} and events both say what was used; write it in the events")
    elif short:
        events = (_used(fields, contract),)
    return Settling(
        hold=fields.get("hold", Place.name, None),
        outcome=cast(Outcome, fields.get("outcome", lambda at: at.choice(OUTCOMES), "success")),
        events=events,
        charge_pico=fields.get("charge_credits", read_pico, None),
    )


def _read_used(place: Place, contract: Contract) -> Used:
    return _used(place.fields(*_USED), contract)


def _used(fields: Any, contract: Contract) -> Used:
    return Used(
        meters=fields.get("meters", lambda at: _read_meters(at, contract), {}),
        cost_pico=fields.get("cost_usd", read_cost, 0),
        payer=fields.get("payer", _read_payer, None),
    )


def _read_releasing(place: Place, _: Contract) -> Releasing:
    if place.is_null:
        return Releasing(hold=None)
    return Releasing(hold=place.fields("hold").get("hold", Place.name, None))


def _read_refunding(place: Place, _: Contract) -> Refunding:
    if place.is_null:
        return Refunding(hold=None, amount_pico=None)
    fields = place.fields("hold", "credits")
    return Refunding(hold=fields.get("hold", Place.name, None), amount_pico=fields.get("credits", read_credits, None))


def _read_recorded(place: Place, contract: Contract) -> Used:
    fields = place.fields(*_USED, "environment", "feature", "user", "api_key")
    return Used(
        meters=fields.get("meters", lambda at: _read_meters(at, contract), {}),
        cost_pico=fields.get("cost_usd", read_cost, 0),
        payer=fields.get("payer", _read_payer, None),
        environment=fields.get("environment", Place.text, ENVIRONMENT),
        feature=fields.get("feature", Place.text, FEATURE),
        user_id=fields.get("user", Place.text, USER),
        api_key_id=fields.get("api_key", Place.text, None),
    )


_WAYS: Final = (
    _Way("authorize", _read_asked),
    _Way("settle", _read_settling),
    _Way("release", _read_releasing),
    _Way("refund", _read_refunding),
    _Way("record", _read_recorded),
    _Way("grant", lambda place, _: read_grant(place, None)),
    _Way("wait", lambda _place, _contract: None),
)
