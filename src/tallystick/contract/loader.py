"""`load_contract`: from a file's text to a whole contract, or all of its errors at once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from types import MappingProxyType
from typing import TypeVar

from tallystick.contract.cross_checks import check_plans
from tallystick.contract.document import NEXT_STEP, Node, Scalar, Sequence, Table, parse_document
from tallystick.contract.fields import Place
from tallystick.contract.inherit import resolve_plans
from tallystick.contract.model import (
    COST_ADJUSTMENT,
    Contract,
    Credit,
    DeclaredMeter,
    Disputes,
    EnvironmentTerms,
    Invoicing,
)
from tallystick.contract.read_actions import read_action
from tallystick.contract.read_disputes import read_disputes
from tallystick.contract.read_plans import PlanTerms, read_enforcement, read_plan
from tallystick.contract.read_seller import read_invoicing, read_seller
from tallystick.contract.read_sla import read_sla
from tallystick.contract.words import duration
from tallystick.core.errors import Problems
from tallystick.usage.meters import METER_NAME, METERS

V = TypeVar("V")

HOLD_LIFE = timedelta(minutes=15)
REFUND_GRACE = timedelta(days=7)
"""What holds where a contract does not say."""
CREDIT_USD_MAX = 10**6
HOLD_LIFE_MAX = timedelta(days=7)

KEYS = (
    "contract", "version", "effective_from", "currency", "credit", "meters", "actions", "plans", "environments",
    "enforcement", "holds", "refunds", "invoicing", "disputes", "seller", "sla",
)  # fmt: skip
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*(_[0-9]+)*)")


def load_contract(text: str, name: str) -> Contract:
    """The contract that the text holds.

    Args:
        text: the whole file, YAML.
        name: what errors call the file.

    Raises:
        Problems: `invalid_contract`, with every error found; each one's `where` is "FILE:LINE: key.path".
    """
    root, problems = parse_document(text, name)
    contract = _read(Place(name, "", root.line, root, problems), content_sha256(root), text)
    if problems:
        ordered = sorted({(_line(p.where), str(p)): p for p in problems}.items())
        raise Problems("invalid_contract", [problem for _, problem in ordered], next_step=NEXT_STEP)
    return contract


def content_sha256(root: Node) -> str:
    """SHA-256 (hex) of the content, whatever its comments, spacing, quotes and order of names.

    The bytes hashed are the content as JSON in UTF-8: names sorted, no spaces, nothing escaped that JSON
    does not require. A bare whole number, `true`, `false` and `null` are JSON's own; every other scalar
    is a JSON string of its text. It depends on the file alone, not on how a release of Tallystick reads
    it, so that a stored contract keeps its hash.
    """
    canonical = json.dumps(_plain(root), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _plain(node: Node) -> object:
    if isinstance(node, Table):
        return {key: _plain(value) for key, value in node.entries.items()}
    if isinstance(node, Sequence):
        return [_plain(item) for item in node.items]
    return _plain_scalar(node)


def _plain_scalar(node: Scalar) -> object:
    if not node.quoted:
        if node.text in ("true", "false"):
            return node.text == "true"
        if node.text in ("", "null", "~"):
            return None
        if len(node.text) <= 30 and _INTEGER.fullmatch(node.text):
            return int(node.text)
    return node.text


def _line(where: str | None) -> int:
    match = re.search(r":(\d+)(?:: |$)", where or "")
    return int(match[1]) if match else 0


def _frozen(values: dict[str, V]) -> Mapping[str, V]:
    return MappingProxyType(values)


def _read(place: Place, sha256: str, text: str) -> Contract:
    fields = place.fields(*KEYS)
    credit = fields.get("credit", _read_credit, None)
    meters = fields.get("meters", lambda at: at.table(_read_meter), {})
    known = (*METERS, *meters)
    actions = fields.get("actions", lambda at: at.table(read_action), {})
    no_plans: dict[str, PlanTerms] = {}
    terms = fields.need("plans", lambda at: at.table(lambda name, entry: read_plan(name, entry, known)), no_plans)
    if not terms and "plans" in fields.given and not place.problems:
        fields.at("plans").note("missing_value", "a contract has at least one plan")
    plans = resolve_plans(terms, fields.get("sla", read_sla, None))
    check_plans(plans, terms, actions, credit)
    for action in actions.values():
        if credit is None and (action.credits or action.cost_plus is not None):
            fields.at("actions").note("missing_key", f"action {action.name!r} costs credits; say what `credit` is")
    return Contract(
        name=fields.need("contract", Place.name, ""),
        version=fields.need("version", Place.name, ""),
        effective_from=fields.need("effective_from", Place.instant, datetime(2000, 1, 1, tzinfo=UTC)),
        currency=fields.get("currency", lambda at: at.choice(("USD",)), "USD"),
        credit=credit,
        meters=_frozen(meters),
        actions=_frozen(actions),
        plans=_frozen(plans),
        environments=_frozen(fields.get("environments", lambda at: at.table(_read_environment), {})),
        enforcement=fields.get("enforcement", read_enforcement, "enforce"),
        hold_life=fields.get("holds", lambda at: _read_duration(at, "life", HOLD_LIFE, HOLD_LIFE_MAX), HOLD_LIFE),
        refund_grace=fields.get("refunds", lambda at: _read_duration(at, "grace", REFUND_GRACE), REFUND_GRACE),
        sha256=sha256,
        source_text=text,
        seller=fields.get("seller", read_seller, None),
        invoicing=fields.get("invoicing", read_invoicing, Invoicing()),
        disputes=fields.get("disputes", read_disputes, Disputes()),
    )


def _read_credit(place: Place) -> Credit:
    fields = place.fields("name", "usd")
    usd = fields.need("usd", lambda at: at.decimal(positive=True), Fraction(1))
    if usd > CREDIT_USD_MAX:
        fields.at("usd").note("too_large", f"a credit may be worth {CREDIT_USD_MAX:,} USD at most")
    return Credit(fields.get("name", Place.name, "credit"), usd)


def _read_meter(name: str, place: Place) -> DeclaredMeter:
    if not METER_NAME.fullmatch(name) or name == COST_ADJUSTMENT:
        rule = "a meter's name has lower-case letters, digits and _, and begins with a letter"
        raise place.refusal("invalid_name", f"{name[:80]!r} cannot name a meter: {rule}")
    unit = place.fields("unit").need("unit", Place.name, "unit")
    if name in METERS and METERS[name].unit != unit:
        what = f"{name} is built in and counts in {METERS[name].unit}s; leave it out, or choose another name"
        raise place.refusal("meter_is_built_in", what)
    return DeclaredMeter(name, unit)


def _read_environment(name: str, place: Place) -> EnvironmentTerms:
    if not 0 < len(name) <= 512:
        raise place.refusal("invalid_name", "an environment's name has 1 to 512 characters")
    return EnvironmentTerms(place.fields("charge").need("charge", Place.flag, True))


def _read_duration(place: Place, key: str, stand_in: timedelta, most: timedelta = timedelta.max) -> timedelta:
    fields = place.fields(key)
    value = fields.need(key, Place.duration, stand_in)
    if value > most:
        what = f"a hold keeps a customer's credits from being used, so that it may live for {duration(most)} at most"
        fields.at(key).note("invalid_duration", what)
    return value
