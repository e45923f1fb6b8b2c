"""The body of an operation's entry: what was asked for and what became of it, as canonical JSON.

    body = {"request": R, "result": S}     RFC 8785 JSON

R and S are the structures of `ledger.operations`, member by member, sorted by name:

- integers are strings of digits, whatever they count: amounts are beyond what JSON readers keep exactly;
- fractions are strings, exact decimals ("0.8");
- instants are RFC 3339 in UTC with `Z`, with six digits of fraction when there are any, else none;
- what may be there or not, and is not, is null; a member that has its default is left out. So a member that is added
  later, with a default, leaves the body of every operation without it as it was.

Reading is strict: what is not byte for byte what is written here is no body.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from tallystick.core.struct_types import work_out
from tallystick.ledger import credit_operations as credit
from tallystick.ledger import invoice_operations as inv
from tallystick.ledger import operations as op
from tallystick.ledger.adjustment import Adjust
from tallystick.ledger.dispute_operations import StepDispute, Stepped
from tallystick.ledger.operation_entry import body_parts

REQUESTS: Mapping[str, type[msgspec.Struct]] = types.MappingProxyType(
    {
        "grant": op.Grant,
        "hold": op.Authorize,
        "denial": op.Authorize,
        "settlement": op.Settle,
        "release": op.ReleaseHold,
        "expiry": op.Expire,
        "refund": op.Refund,
        "override": op.SetOverride,
        "budget": op.SetBudget,
        "standing": op.SetStanding,
        "adjustment": Adjust,
        "invoice": inv.IssueInvoice,
        "payment": inv.Pay,
        "credit_note": inv.CreditInvoice,
        "void": inv.VoidInvoice,
        "dispute": StepDispute,
        "invoice_credit": credit.GiveCredit,
        "promo": credit.RedeemPromo,
    }
)
"""What is asked for, by the kind of operation."""

_RESULTS: Mapping[str, type[msgspec.Struct]] = types.MappingProxyType(
    {
        "grant": op.Granted,
        "hold": op.Held,
        "denial": op.Denied,
        "settlement": op.Settled,
        "release": op.Returned,
        "refund": op.Returned,
        "override": op.Noted,
        "budget": op.Noted,
        "standing": op.Noted,
        "adjustment": op.Noted,
        "invoice": inv.Issued,
        "payment": inv.Paid,
        "credit_note": inv.Credited,
        "void": inv.Voided,
        "dispute": Stepped,
        "invoice_credit": credit.CreditGiven,
        "promo": credit.Redeemed,
    }
)
work_out(*REQUESTS.values(), *_RESULTS.values(), op.Ended, op.Returned)

Writer = Callable[[Any], bytes]
_json_text = msgspec.json.encode
_DECIMAL = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?")


def encode_part(part: msgspec.Struct) -> bytes:
    """R or S: the canonical JSON of a structure of `ledger.operations`.

    Raises:
        ValueError: a fraction in it is no decimal.
    """
    return _writer(type(part))(part)


def join_body(request: bytes, result: bytes) -> bytes:
    """The body of these two, as `encode_part` writes them."""
    return b'{"request":%b,"result":%b}' % (request, result)


def encode_body(request: op.OperationRequest, result: op.OperationResult) -> bytes:
    """The body of an operation."""
    return join_body(encode_part(request), encode_part(result))


def decode_body(kind: str, body: str | bytes) -> tuple[Any, Any]:
    """The request and the result of an operation of that kind.

    Raises:
        ValueError: it is not the body of such an operation, or not written as one is.
    """
    request, result = read_body(kind, body)
    if encode_body(request, result) != (body.encode() if isinstance(body, str) else body):
        raise ValueError(f"it is not written as the body of a {kind} is")
    return request, result


def read_body(kind: str, body: str | bytes) -> tuple[Any, Any]:
    """The same of a body that is known to be sound: it is not compared with what would be written.

    Raises:
        ValueError: it cannot be read as one.
    """
    if kind not in REQUESTS:
        raise ValueError(f"there is no operation of the kind {kind!r:.60}")
    parts = body_parts(body)
    request = _decoder(REQUESTS[kind]).decode(parts.request)
    return request, _decoder(result_type(kind, request)).decode(parts.result)


def result_type(kind: str, request: Any) -> type[msgspec.Struct]:
    """What becomes of such a request: the end of a grant is told otherwise than that of a hold."""
    if kind == "expiry":
        return op.Ended if request.what == "grant" else op.Returned
    return _RESULTS[kind]


@cache
def _decoder(kind: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
    # Not strict: strings of digits are taken for integers.
    return msgspec.json.Decoder(kind, strict=False, dec_hook=_read_other)


def _read_other(kind: type, value: Any) -> Any:
    if kind is Fraction and isinstance(value, str) and _DECIMAL.fullmatch(value):
        return Fraction(value)
    raise ValueError(f"this is no {kind.__name__}")


# ── writing: for each type once, what writes its values ─────────────────────────────────────────────────────────────
#
# Bodies are written under the lock of an org's head, thousands a second. So the writer of a structure is made as source
# text, as `dataclasses` makes its methods: one template for it and the structures that it always has, filled at once.


class _Source:
    """The source of one writer: lines that name values, and the names that these need."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "text": msgspec.json.encode, "instant": _instant, "fraction": _fraction, "table": _table,
        }  # fmt: skip

    def name(self, value: Any) -> str:
        """A name for a value."""
        name = f"_{len(self.names)}"
        self.names[name] = value
        return name

    def local(self, expression: str) -> str:
        """A name for what an expression gives."""
        name = f"m_{len(self.lines)}"
        self.lines.append(f"{name} = {expression}")
        return name

    def written(self, kind: Any, value: str) -> str:
        """The expression that writes the value of that name, of that type."""
        template, values = self.template(kind, value)
        return values[0] if template == "%b" else f"b'{template}' % ({', '.join(values)},)"

    def template(self, kind: Any, value: str) -> tuple[str, list[str]]:
        """What writes a value of that type: a template of bytes, and expressions for its places."""
        origin, arguments = get_origin(kind), get_args(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self.structure(kind, value)
        if origin in (Union, types.UnionType):
            (inner,) = [one for one in arguments if one is not types.NoneType]
            value = self.local(value)
            return "%b", [f"(b'null' if {value} is None else {self.apart(inner, value)})"]
        if origin is tuple or origin is list:
            value = self.local(value)
            return "%b", [
                f"(b'[%b]' % b','.join([{self.apart(arguments[0], 'one')} for one in {value}]) if {value} else b'[]')"
            ]
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return "%b", [f"table({value}, {self.name(_writer(arguments[1]))})"]
        if origin is Literal or kind is str:
            return "%b", [f"text({value})"]
        template, expression = _PLAIN[kind]
        return template, [expression.format(value)]

    def apart(self, kind: Any, value: str) -> str:
        """As `written`, where the value may not be there: without lines of its own."""
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return f"{self.name(_writer(kind))}({value})"
        if get_origin(kind) in (tuple, list, Union, types.UnionType):
            return f"{self.name(_writer(kind))}({value})"
        return self.written(kind, value)

    def structure(self, kind: type[msgspec.Struct], value: str) -> tuple[str, list[str]]:
        """The members of a structure in their order; one that has its default is left out, with its comma."""
        fields = sorted(msgspec.structs.fields(kind), key=lambda field: field.encode_name)
        first = next((place for place, field in enumerate(fields) if field.required), len(fields))
        template, values = "", list[str]()
        for place, field in enumerate(fields):
            before, after = ("," if place > first else ""), ("," if place < first else "")
            if field.required:
                member, given = self.template(field.type, f"{value}.{field.name}")
                template += f'{before}"{field.encode_name}":{member}'
                values += given
            else:
                named, default = self.local(f"{value}.{field.name}"), self.name(_default(field))
                member = f"b'{before}\"{field.encode_name}\":%b{after}' % {self.apart(field.type, named)}"
                template += "%b"
                values.append(f"(b'' if {named} is {default} or {named} == {default} else {member})")
        if first < len(fields):
            return f"{{{template}}}", values
        return "{%b}", [f"b''.join(({''.join(f'{one}, ' for one in values)}))[:-1]"]


@cache
def _writer(kind: Any) -> Writer:
    """What writes values of a type."""
    source = _Source()
    given = f"return {source.written(kind, 'value')}"
    lines = "\n    ".join([*source.lines, given])
    exec(f"def write(value):\n    {lines}", source.names)  # noqa: S102 - of the names of our own types
    write: Writer = source.names["write"]
    return write


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _table(table: Mapping[Any, Any], write: Writer) -> bytes:
    named = {str(key): value for key, value in table.items()}
    order = sorted(named) if "".join(named).isascii() else sorted(named, key=lambda key: key.encode("utf-16-be"))
    return b"{%b}" % b",".join([b"%b:%b" % (_json_text(key), write(named[key])) for key in order])


def _instant(value: datetime) -> bytes:
    return _json_text(value if value.tzinfo is UTC else value.astimezone(UTC))


@lru_cache(maxsize=4096)
def _fraction(value: Fraction) -> bytes:
    places, denominator = 0, value.denominator
    while denominator % 10 == 0:
        places, denominator = places + 1, denominator // 10
    while denominator % 2 == 0:
        places, denominator = places + 1, denominator // 2
    while denominator % 5 == 0:
        places, denominator = places + 1, denominator // 5
    if denominator != 1:
        raise ValueError(f"{value} is no decimal")
    digits = f"{abs(value.numerator) * 10**places // value.denominator:0{places + 1}d}"
    sign = "-" if value < 0 else ""
    whole, part = (digits[:-places], digits[-places:]) if places else (digits, "")
    return f'"{sign}{whole}{"." if part else ""}{part}"'.encode()


_PLAIN: Mapping[Any, tuple[str, str]] = types.MappingProxyType(
    {
        int: ('"%d"', "{}"),
        bool: ("%b", "(b'true' if {0} else b'false')"),
        datetime: ("%b", "instant({})"),
        Fraction: ("%b", "fraction({})"),
    }
)
"""Templates of plain values, and the expressions for their places."""
