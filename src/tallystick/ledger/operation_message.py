"""Operations and their answers as bytes, for processes of one machine that decide for each other.

A message is for the moment: it is read by the same release that wrote it, and kept nowhere. What is kept, an entry's
body, has a form of its own (`ledger.operation_body`).
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from types import MappingProxyType
from typing import Any, get_args

import msgspec

from tallystick.core import errors
from tallystick.core.errors import TallyError
from tallystick.core.struct_types import work_out
from tallystick.ledger.operation_body import REQUESTS, result_type
from tallystick.ledger.operations import Expire, Operation, OperationKind, Recorded, SettleEvent

_KINDS: tuple[OperationKind, ...] = get_args(OperationKind)
_REFUSED = 255
_REFUSALS = MappingProxyType(
    {one.__name__: one for one in (errors.BadInput, errors.NotFound, errors.Conflict, errors.Unavailable)}
)


class _Refused(msgspec.Struct, kw_only=True):
    kind: str
    code: str
    detail: str
    next_step: str
    where: str | None = None
    retry_after_seconds: int = 1


work_out(_Refused, SettleEvent)


# The first byte of a message says of which kind the rest is, so that all of it can be read at once, by its types.


def operation_message(operation: Operation) -> bytes:
    """An operation, to be handed to a writer in another process."""
    return bytes((_KINDS.index(operation.kind),)) + _encode(operation)


def read_operation(message: bytes) -> Operation:
    """The operation of a message, of a type that is an `Operation`.

    Raises:
        ValueError: it is none.
    """
    operation: Operation = _operation_decoder(_number(message)).decode(memoryview(message)[1:])
    return operation


def answer_message(answer: Recorded | TallyError) -> bytes:
    """What became of an operation, or what it was refused for."""
    if isinstance(answer, Recorded):
        is_end_of_grant = isinstance(answer.request, Expire) and answer.request.what == "grant"
        return bytes((_KINDS.index(answer.kind) + len(_KINDS) * is_end_of_grant,)) + _encode(answer)
    refused = _Refused(
        kind=next((name for name, one in _REFUSALS.items() if isinstance(answer, one)), "BadInput"),
        code=answer.code,
        detail=answer.detail,
        next_step=answer.next_step,
        where=answer.where,
        retry_after_seconds=getattr(answer, "retry_after_seconds", 1),
    )
    return bytes((_REFUSED,)) + _encode(refused)


def read_answer(message: bytes) -> Recorded | TallyError:
    """The answer of a message; what was recorded is of a type that is a `Recorded`.

    Raises:
        ValueError: it is none.
    """
    number = _number(message)
    if number == _REFUSED:
        return _read_refusal(msgspec.json.decode(message[1:], type=_Refused))
    recorded: Recorded = _answer_decoder(number).decode(memoryview(message)[1:])
    return recorded


def _read_refusal(said: _Refused) -> TallyError:
    kind = _REFUSALS.get(said.kind)
    if kind is None:
        raise ValueError(f"there is no refusal {said.kind}")
    if kind is errors.Unavailable:
        return errors.Unavailable(
            said.code,
            said.detail,
            next_step=said.next_step,
            where=said.where,
            retry_after_seconds=said.retry_after_seconds,
        )
    return kind(said.code, said.detail, next_step=said.next_step, where=said.where)


def _number(message: bytes) -> int:
    if not message:
        raise ValueError("a message is empty")
    return message[0]


@cache
def _operation_decoder(number: int) -> msgspec.json.Decoder[Any]:
    """Of operations of one kind: an `Operation` whose request is of that kind's type."""
    if number >= len(_KINDS):
        raise ValueError(f"no kind of operation has the number {number}")
    return _decoder("Operation", Operation, {"request": REQUESTS[_KINDS[number]]})


@cache
def _answer_decoder(number: int) -> msgspec.json.Decoder[Any]:
    """The same of answers; beyond the kinds there is the expiry of a grant, which is told otherwise."""
    is_end_of_grant, place = divmod(number, len(_KINDS))
    if is_end_of_grant > 1:
        raise ValueError(f"no kind of operation has the number {number}")
    kind = _KINDS[place]
    request = Expire(what="grant" if is_end_of_grant else "hold", seq=1)
    return _decoder("Recorded", Recorded, {"request": REQUESTS[kind], "result": result_type(kind, request)})


def _decoder(name: str, base: type[msgspec.Struct], types: dict[str, Any]) -> msgspec.json.Decoder[Any]:
    narrowed = msgspec.defstruct(name, list(types.items()), bases=(base,), frozen=True, kw_only=True)
    return msgspec.json.Decoder(narrowed, dec_hook=_read_other)


def _write_other(value: Any) -> Any:
    if isinstance(value, Fraction):
        return str(value)
    raise TypeError(f"no {type(value).__name__} is part of an operation")


def _read_other(kind: type, value: Any) -> Any:
    if kind is Fraction and isinstance(value, str):
        return Fraction(value)
    raise ValueError(f"this is no {kind.__name__}")


_encode = msgspec.json.Encoder(enc_hook=_write_other).encode
