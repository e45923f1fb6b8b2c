"""What a call says of itself in its headers, filled up with what its key says for every call.

    x-tally-feature, x-tally-user, x-tally-session, x-tally-environment     mandatory, from either
    x-tally-action, x-tally-work-key, x-tally-request-id                    where there is one
    x-tally-attribute-NAME                                                  whatever is to be found again

A call without a mandatory one is refused with all of the missing ones named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

import msgspec

from tallystick.core.errors import BadInput, Problems
from tallystick.usage.event_problems import ATTRIBUTES_MAX, TEXT_CHARS_MAX, check_text, is_sound_text

PREFIX: Final = b"x-tally-"
ATTRIBUTE_PREFIX: Final = b"x-tally-attribute-"
FIELDS: Final = MappingProxyType(
    {
        b"x-tally-feature": "feature",
        b"x-tally-user": "user_id",
        b"x-tally-session": "session_id",
        b"x-tally-environment": "environment",
        b"x-tally-action": "action",
        b"x-tally-work-key": "work_key",
        b"x-tally-request-id": "request_id",
    }
)
"""Header to field of an event."""
MANDATORY: Final = ("feature", "user_id", "session_id", "environment")
DEFAULTED: Final = (*MANDATORY, "action", "work_key")
"""What a key may say of every call."""
REQUEST_ID_CHARS_MAX: Final = TEXT_CHARS_MAX - 12
"""Further attempts of a call get an id with a number behind it."""

_HEADER_OF: Final = MappingProxyType({field: header.decode() for header, field in FIELDS.items()})
_ATTEMPT: Final = re.compile(r"~[0-9]+$")


class Tags(msgspec.Struct, frozen=True, kw_only=True):
    """What a call says of itself; checked as events are."""

    feature: str
    user_id: str
    session_id: str
    environment: str
    action: str | None = None
    work_key: str | None = None
    request_id: str | None = None
    attributes: dict[str, str] = {}


def tags_of(headers: Iterable[tuple[bytes, bytes]], defaults: Mapping[str, str] = MappingProxyType({})) -> Tags:
    """The tags of a call.

    Args:
        headers: as ASGI has them; other headers are let through.
        defaults: by field (`DEFAULTED`): what holds where a header is missing or empty.

    Raises:
        BadInput: `missing_tags`, all of them named; `duplicate_tag`, a header twice with different values;
            `reserved_request_id`; `text_too_long`, `invalid_text`, `too_many_attributes`, as of events. `where` is the
            header.
        Problems: `invalid_tags`, several of these.
    """
    given: dict[str, str] = {}
    attributes: dict[str, str] = {}
    faults: list[BadInput] = []
    others: list[str] = []
    for written, raw in headers:
        name = written.lower()
        if not name.startswith(PREFIX):
            continue
        field = FIELDS.get(name)
        if field is not None:
            _put(given, field, name, raw, faults)
        elif name.startswith(ATTRIBUTE_PREFIX):
            _put(attributes, name[len(ATTRIBUTE_PREFIX) :].decode("latin-1"), name, raw, faults)
        else:
            others.append(name.decode("latin-1"))
    for field in DEFAULTED:
        if field in defaults:
            given.setdefault(field, defaults[field])
    faults += _faults(given, attributes)
    missing = [field for field in MANDATORY if field not in given]
    if missing:
        faults.insert(0, _missing(missing, others))
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise Problems("invalid_tags", faults, next_step="mend the headers that are named, then send the call again")
    return Tags(**given, attributes=attributes)


def _put(into: dict[str, str], key: str, header: bytes, raw: bytes, faults: list[BadInput]) -> None:
    where = header.decode("latin-1")
    try:
        text = raw.decode().strip()
    except UnicodeDecodeError:
        faults.append(BadInput("invalid_text", "it is not UTF-8", next_step="encode it as UTF-8", where=where))
        text = "-"  # so that it is not said to be missing, too
    if not text:
        return
    if into.setdefault(key, text) != text:
        detail = "the header is there twice, with different values"
        faults.append(BadInput("duplicate_tag", detail, next_step="send it once", where=where))


def _faults(given: Mapping[str, str], attributes: Mapping[str, str]) -> list[BadInput]:
    faults: list[BadInput] = []
    for field, text in given.items():
        if not is_sound_text(text):
            _note(faults, _HEADER_OF[field], text)
    request_id = given.get("request_id", "")
    where = _HEADER_OF["request_id"]
    if REQUEST_ID_CHARS_MAX < len(request_id) <= TEXT_CHARS_MAX:
        detail = f"it has {len(request_id)} characters; {REQUEST_ID_CHARS_MAX} is the most"
        faults.append(BadInput("text_too_long", detail, next_step="send a shorter id", where=where))
    if _ATTEMPT.search(request_id):
        detail = "an id that ends with ~ and a number is the id of a further attempt, which is given by the gateway"
        faults.append(BadInput("reserved_request_id", detail, next_step="send another id", where=where))
    if len(attributes) > ATTRIBUTES_MAX:
        detail = f"there are {len(attributes)}; {ATTRIBUTES_MAX} is the most"
        faults.append(BadInput("too_many_attributes", detail, next_step="send fewer", where="x-tally-attribute-*"))
    for name, text in attributes.items():
        for each in (name, text):
            if not is_sound_text(each):
                _note(faults, f"x-tally-attribute-{name[:60]}", each)
    return faults


def _note(faults: list[BadInput], where: str, text: str) -> None:
    try:
        check_text(where, text)
    except BadInput as error:
        faults.append(error.with_traceback(None))


def _missing(fields: list[str], others: list[str]) -> BadInput:
    headers = [_HEADER_OF[field] for field in fields]
    names = ", ".join(headers)
    wanted = [header[len(PREFIX) :] for header in headers]
    nearly = [name for name in others[:20] if get_close_matches(name[len(PREFIX) :][:40], wanted, n=1)]
    hint = f"; it has {nearly[0][:60]}, which is not the name of a tag" if nearly else ""
    return BadInput(
        "missing_tags",
        f"the call does not say {names}{hint}",
        next_step="send these headers, or let the key have defaults for them",
        where=names,
    )
