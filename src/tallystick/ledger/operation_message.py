"""Operations and their answers as bytes, for processes of one machine that decide for each other.

A message is for the moment: it is read by the same release that wrote it, and kept nowhere. What is kept, an entry's
body, has a form of its own (`ledger.operation_body`).
"""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from functools import cache
from types import MappingProxyType
from typing import Any

import msgspec

from tallystick.core import errors
from tallystick.core.errors import TallyError
from tallystick.ledger.operation_body import REQUESTS, result_type
from tallystick.ledger.operations import Operation, OperationKind, Recorded, SettleEvent
from tallystick.ledger.receipt import Receipt

_REFUSALS = MappingProxyType(
    {one.__name__: one for one in (errors.BadInput, errors.NotFound, errors.Conflict, errors.Unavailable)}
)


class _Operation(msgspec.Struct, kw_only=True):
    """An `Operation` whose request is not read yet: its type follows from the kind."""

    org_id: str
    kind: OperationKind
    request_id: str
    request: msgspec.Raw
    salt: bytes
    user_id: str | None = None
    session_id: str | None = None
    attributes: dict[str, str] = {}
    worst_cost_pico: int | None = 0
    events: tuple[SettleEvent, ...] = ()


class _Recorded(msgspec.Struct, kw_only=True):
    """A `Recorded` likewise."""

    org_id: str
    kind: OperationKind
    seq: int
    request_id: str
    recorded_at: datetime
    request: msgspec.Raw
    result: msgspec.Raw
    fingerprint: str
    leaf: str
    rate_version: str
    refers_to_seq: int | None = None
    usage: tuple[Receipt, ...] = ()
    is_new: bool = True


class _Refused(msgspec.Struct, kw_only=True):
    refused: str
    code: str
    detail: str
    next_step: str
    where: str | None = None
    retry_after_seconds: int = 1


def operation_message(operation: Operation) -> bytes:
    """An operation, to be handed to a writer in another process."""
    return _encode(operation)


def read_operation(message: bytes) -> Operation:
    """The operation of a message.

    Raises:
        ValueError: it is none.
    """
    sent = _decoder(_Operation).decode(message)
    members = {name: getattr(sent, name) for name in _Operation.__struct_fields__}
    members["request"] = _decoder(REQUESTS[sent.kind]).decode(sent.request)
    return Operation(**members)


def answer_message(answer: Recorded | TallyError) -> bytes:
    """What became of an operation, or what it was refused for."""
    if isinstance(answer, Recorded):
        return _encode(answer)
    kind = next((name for name, one in _REFUSALS.items() if isinstance(answer, one)), "BadInput")
    return _encode(
        _Refused(
            refused=kind,
            code=answer.code,
            detail=answer.detail,
            next_step=answer.next_step,
            where=answer.where,
            retry_after_seconds=getattr(answer, "retry_after_seconds", 1),
        )
    )


def read_answer(message: bytes) -> Recorded | TallyError:
    """The answer of a message.

    Raises:
        ValueError: it is none.
    """
    if message.startswith(b'{"refused"'):
        said = _decoder(_Refused).decode(message)
        kind = _REFUSALS[said.refused]
        if kind is errors.Unavailable:
            return errors.Unavailable(
                said.code,
                said.detail,
                next_step=said.next_step,
                where=said.where,
                retry_after_seconds=said.retry_after_seconds,
            )
        return kind(said.code, said.detail, next_step=said.next_step, where=said.where)
    sent = _decoder(_Recorded).decode(message)
    members = {name: getattr(sent, name) for name in _Recorded.__struct_fields__}
    request = members["request"] = _decoder(REQUESTS[sent.kind]).decode(sent.request)
    members["result"] = _decoder(result_type(sent.kind, request)).decode(sent.result)
    return Recorded(**members)


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, dec_hook=_read_other)


def _write_other(value: Any) -> Any:
    if isinstance(value, Fraction):
        return str(value)
    raise TypeError(f"no {type(value).__name__} is part of an operation")


def _read_other(kind: type, value: Any) -> Any:
    if kind is Fraction and isinstance(value, str):
        return Fraction(value)
    raise ValueError(f"this is no {kind.__name__}")


_encode = msgspec.json.Encoder(enc_hook=_write_other).encode
