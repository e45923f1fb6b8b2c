"""A card file: what one version of the rate card adds to those before it, as reviewed JSON Lines text.

The first line is the header. Each further line is one row, told apart by its member `row`:

    provider   the provider's aliases and, for a bare model name, how it is recognised
    model      which names mean this model
    alias      a further name of a model, which the source does not know
    retired    the source no longer lists this model; its rows stay
    rate       what one meter costs, from when until when

A file is never rewritten: each header holds the SHA-256 of the file before it, so that the files form one
chain, and a change anywhere in it is found when it is read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from tallystick.core.errors import BadInput, Problems
from tallystick.usage.meters import METERS, meter_order

Match = Mapping[str, Any]
"""One clause on a lower-case name: {KIND: text}, or {"or": [clause, …]}, or {"and": [clause, …]}.

KIND is one of equals, starts_with, ends_with, contains and regex.
"""

_CLAUSE_KINDS = frozenset({"equals", "starts_with", "ends_with", "contains", "regex"})

FORMAT = 1
_PROBLEMS_SHOWN = 20
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NEXT_STEP = "restore the file as it was published; corrections go into a new file"


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="row", tag="card"):
    """The first line of a card file.

    Attributes:
        version: the version's name, unique in its history.
        known_at: when these prices became known to anybody who watches the source.
        source: where they come from ("genai-prices", "tallystick" for rows written by hand).
        source_sha256: hash of the source's own file, or None for rows written by hand.
        previous: SHA-256 of the card file before this one, None for the first.
    """

    format: int
    version: str
    known_at: datetime
    source: str
    source_sha256: str | None
    previous: str | None


class ProviderLine(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="row", tag="provider"
):
    """A provider: other names for it, the models that are recognised as its own, and whose prices it passes on."""

    provider: str
    match: dict[str, Any] | None = None
    model_match: dict[str, Any] | None = None
    fallbacks: tuple[str, ...] = ()


class ModelLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="row", tag="model"):
    """A model, and which names mean it."""

    provider: str
    model: str
    match: dict[str, Any]


class AliasLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="row", tag="alias"):
    """A further name of a model. Files written by hand have them; the source's own names stay as they are."""

    provider: str
    model: str
    match: dict[str, Any]


class RetiredLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="row", tag="retired"):
    """A model that the source no longer lists."""

    provider: str
    model: str


class RateLine(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="row", tag="rate", gc=False
):
    """One rate row as it is written; `RateRow` is the same for readers. `tiers` are (above, price_pico) pairs."""

    provider: str
    model: str
    meter: str
    per: int
    price_pico: int | None
    context: dict[str, str] = {}
    tiers: tuple[tuple[int, int], ...] = ()
    window: str | None = None
    quantity_min: int = 0
    valid_from: datetime | None = None
    valid_to: datetime | None = None


Line = ProviderLine | ModelLine | AliasLine | RetiredLine | RateLine


class CardVersion(msgspec.Struct, frozen=True):
    """One card file, read: its header, its rows by kind, and the SHA-256 of its bytes."""

    header: Header
    sha256: str
    providers: tuple[ProviderLine, ...]
    models: tuple[ModelLine, ...]
    aliases: tuple[AliasLine, ...]
    retired: tuple[RetiredLine, ...]
    rates: tuple[RateLine, ...]

    @property
    def name(self) -> str:
        return self.header.version


_decode_header = msgspec.json.Decoder(Header).decode
_decode_lines = msgspec.json.Decoder(Line).decode_lines
_decode_line = msgspec.json.Decoder(Line).decode
_encode = msgspec.json.Encoder().encode


def window_minutes(window: str) -> tuple[int, int]:
    """Minutes since midnight UTC of a window such as "16:30-00:30".

    Raises:
        ValueError: it is not one.
    """
    match = _CLOCK.fullmatch(window)
    if match is None:
        raise ValueError(f"{window!r} is not a time of day such as 16:30-00:30")
    hours, minutes, end_hours, end_minutes = map(int, match.groups())
    return hours * 60 + minutes, end_hours * 60 + end_minutes


@lru_cache(maxsize=256)  # the same files are read again and again: by checks, by reloads, by each replay
def parse_card_file(content: bytes, *, name: str = "card") -> CardVersion:
    """Read one card file and check its header and every row; the chain is checked by `CardHistory`.

    Args:
        content: the file's bytes.
        name: how errors call it.

    Raises:
        BadInput: `invalid_card_header`.
        Problems: `invalid_card`, one problem a line.
    """
    first, _, rest = content.partition(b"\n")
    header = _read_header(first, name)
    try:
        lines: list[Line] = _decode_lines(rest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        lines = []
        problems = list(_undecodable(rest, name))
    else:
        problems = list(_wrong_rows(lines, name))
    if problems:
        raise Problems("invalid_card", problems[:_PROBLEMS_SHOWN], next_step=_NEXT_STEP)
    return CardVersion(
        header=header,
        sha256=hashlib.sha256(content).hexdigest(),
        providers=tuple(line for line in lines if type(line) is ProviderLine),
        models=tuple(line for line in lines if type(line) is ModelLine),
        aliases=tuple(line for line in lines if type(line) is AliasLine),
        retired=tuple(line for line in lines if type(line) is RetiredLine),
        rates=tuple(line for line in lines if type(line) is RateLine),
    )


def render_card_file(header: Header, lines: Iterable[Line]) -> bytes:
    """The bytes of a card file: rows sorted so that two versions compare well, one a line."""
    ordered = sorted(lines, key=_sort_key)
    return b"".join(_encode(line) + b"\n" for line in (header, *ordered))


def _sort_key(line: Line) -> tuple[Any, ...]:
    kind = (ProviderLine, ModelLine, AliasLine, RetiredLine, RateLine).index(type(line))
    if not isinstance(line, RateLine):
        return (kind, line.provider, getattr(line, "model", ""))
    since = "" if line.valid_from is None else line.valid_from.isoformat()
    context = tuple(sorted(line.context.items()))
    return (kind, line.provider, line.model, context, meter_order(line.meter), since, line.window or "")


def _read_header(line: bytes, name: str) -> Header:
    def refuse(why: str) -> BadInput:
        return BadInput("invalid_card_header", why, next_step=_NEXT_STEP, where=f"{name}:1")

    try:
        header = _decode_header(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise refuse(f"the first line is not a card header: {error}") from None
    if header.format != FORMAT:
        raise refuse(f"format {header.format} is not known to this release, which reads format {FORMAT}")
    if header.known_at.tzinfo is None:
        raise refuse("known_at has no time zone")
    if not header.version.strip():
        raise refuse("the version has no name")
    for digest in (header.previous, header.source_sha256):
        if digest is not None and _SHA256.fullmatch(digest) is None:
            raise refuse(f"{digest!r} is not a SHA-256 in lower-case hexadecimal")
    return header


def _undecodable(rest: bytes, name: str) -> Iterable[BadInput]:
    for number, line in enumerate(rest.split(b"\n"), start=2):
        if not line.strip():
            continue
        try:
            _decode_line(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            yield BadInput("invalid_card_row", str(error), next_step=_NEXT_STEP, where=f"{name}:{number}")


def _wrong_rows(lines: list[Line], name: str) -> Iterable[BadInput]:
    for number, line in enumerate(lines, start=2):
        why = _why_wrong(line) if type(line) is RateLine else _why_wrong_names(line)
        if why is not None:
            yield BadInput("invalid_card_row", why, next_step=_NEXT_STEP, where=f"{name}:{number}")


def _why_wrong_names(line: Line) -> str | None:
    if isinstance(line, ModelLine | AliasLine):
        return why_no_clause(line.match)
    if isinstance(line, ProviderLine):
        clauses = (clause for clause in (line.match, line.model_match) if clause is not None)
        return next((why for clause in clauses if (why := why_no_clause(clause)) is not None), None)
    return None


def why_no_clause(clause: object) -> str | None:
    """Why something is not a clause on a name, in words; None when it is one."""
    if not isinstance(clause, dict) or len(clause) != 1:
        return f"{clause!r} is not a clause on a name"
    ((kind, value),) = clause.items()
    if kind in {"or", "and"}:
        parts = value if isinstance(value, list) else [value]
        return next((why for part in parts if (why := why_no_clause(part)) is not None), None)
    if kind not in _CLAUSE_KINDS or not isinstance(value, str) or not value:
        return f"{clause!r} is not a clause on a name"
    try:
        re.compile(value if kind == "regex" else "")
    except re.error as error:
        return f"{value!r} is not a regular expression: {error}"
    return None


def _why_wrong(line: RateLine) -> str | None:  # noqa: PLR0911 - one reason a line
    if line.meter not in METERS:
        return f"{line.meter!r} is not a meter"
    if line.per <= 0:
        return "per must be positive"
    if line.quantity_min < 0 or (line.price_pico is not None and line.price_pico < 0):
        return "a price and a minimum are never negative"
    if line.tiers and (line.price_pico is None or any(above < 0 or price < 0 for above, price in line.tiers)):
        return "tiers need a base price, and are never negative"
    if any(one[0] >= two[0] for one, two in zip(line.tiers, line.tiers[1:], strict=False)):
        return "tiers must rise"
    if line.window is not None and _CLOCK.fullmatch(line.window) is None:
        return f"{line.window!r} is not a time of day such as 16:30-00:30"
    return _why_wrong_validity(line)


def _why_wrong_validity(line: RateLine) -> str | None:
    since, until = line.valid_from, line.valid_to
    if since is None and until is None:
        return None
    if any(bound is not None and bound.tzinfo is None for bound in (since, until)):
        return "valid_from and valid_to need a time zone"
    if since is not None and until is not None and since >= until:
        return "valid_from must be before valid_to"
    return None
