"""Reading JSON strictly: what is not one exact value is refused, with the place where it goes wrong.

Strict means RFC 8259 and no more (no NaN, no trailing commas), UTF-8 only, and no object that names a
member twice: which of the two the sender meant is not for us to guess.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from tallystick.core.errors import BadInput

_BYTE = re.compile(r"^(?P<why>.*?) ?\(byte (?P<byte>\d+)\)$", re.DOTALL)
_BOM = b"\xef\xbb\xbf"


def without_bom(body: bytes) -> bytes:
    """The body without the byte order mark that some editors put in front."""
    return body.removeprefix(_BOM)


def read_json(text: bytes | msgspec.Raw, *, where: str | None = None) -> Any:
    """The one JSON value of `text`. Numbers with a point or an exponent become floats, others `int` of any size.

    Raises:
        BadInput: `malformed_json` and `invalid_utf8`, whose detail names the byte, line and column;
            `duplicate_key`, `nested_too_deep`, `number_out_of_range`, `invalid_text` (half a surrogate pair).
    """
    try:
        value = msgspec.json.decode(text)
        name = None if has_unique_keys(text, value) else _duplicate_name(bytes(text))
    except (ValueError, RecursionError) as error:  # msgspec's own and UnicodeDecodeError are ValueErrors
        raise _explain(error, bytes(text), where) from None
    if name is not None:
        detail = f"an object has {name!r:.80} more than once"
        raise BadInput("duplicate_key", detail, next_step="say it once", where=where)
    return value


def has_unique_keys(text: bytes | msgspec.Raw, value: Any) -> bool:
    """Whether `text` provably names no member twice: minified, it is what `value` is written as.

    A False proves nothing (another spelling of the same text gives it too); True takes a microsecond an event.
    """
    given, written = bytes(text), msgspec.json.encode(value)
    return given == written or msgspec.json.format(given, indent=-1) == written


DEPTH_MAX = 10_000
"""How deeply an item of an array may nest before the whole array is refused instead of being taken apart."""
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)


def split_array(text: bytes) -> list[bytes]:
    """The items of a JSON array as text, told apart by brackets, commas and quotes alone, however deep they nest.

    It is for arrays that hold something the decoder stops at. What is between the commas is not looked at;
    text that is no array at all gives items that are no JSON.

    Raises:
        BadInput: `malformed_json`, the array has no end; `nested_too_deep` beyond `DEPTH_MAX`.
    """
    items: list[bytes] = []
    depth, begin = 0, 0
    for token in _TOKEN.finditer(text):
        match token[0]:
            case b"[" | b"{":
                depth += 1
                if depth > DEPTH_MAX:
                    raise _too_deep(None)
                begin = token.end() if depth == 1 else begin
            case b"]" | b"}":
                depth -= 1
                if depth == 0:
                    items.append(text[begin : token.start()])
                    begin = token.end()
            case b"," if depth == 1:
                items.append(text[begin : token.start()])
                begin = token.end()
    if depth:
        raise BadInput("malformed_json", "not JSON: the array has no end", next_step="send valid JSON")
    if text[begin:].strip():
        items.append(text[begin:])
    return items


def _duplicate_name(text: bytes) -> str | None:
    found: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                found.append(name)
            seen.add(name)

    # The numbers do not matter here, and turning thousands of digits into an integer is slow.
    json.loads(text, object_pairs_hook=collect, parse_int=len, parse_float=len)
    return found[0] if found else None


def _explain(error: Exception, text: bytes, where: str | None) -> BadInput:
    """The refusal of text that is not JSON, naming the first byte that is wrong."""
    if isinstance(error, RecursionError):
        return _too_deep(where)
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        return BadInput(
            "invalid_utf8",
            f"the text is not UTF-8 at {_place(text, wrong.start)}",
            next_step="encode it as UTF-8",
            where=where,
        )
    said = str(error)
    # Of a surrogate escape that is cut off by the end of its string the decoder says what it says of cut text.
    if "surrogate" in said or ("truncated" in said and not _is_cut(text)):
        detail = "a \\u escape is half of a surrogate pair and stands for no character"
        return BadInput("invalid_text", detail, next_step="send text that can be written as UTF-8", where=where)
    if "out of range" in said:
        detail = "a number is larger than any number here may be"
        return BadInput("number_out_of_range", detail, next_step="send a smaller number", where=where)
    match = _BYTE.match(said)
    if match is not None:
        why = f"{match['why'].removeprefix('JSON is malformed: ')} at {_place(text, int(match['byte']))}"
    elif "truncated" in said:
        why = f"it ends before it is complete, at {_place(text, len(text))}"
    else:
        why = said.lower()
    return BadInput("malformed_json", f"not JSON: {why}", next_step="send valid JSON", where=where)


def _too_deep(where: str | None) -> BadInput:
    return BadInput(
        "nested_too_deep",
        "values are nested more deeply than anything here needs",
        next_step="send plain objects, as documented",
        where=where,
    )


def _is_cut(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return True
    except RecursionError:
        return False
    return False


def _place(text: bytes, byte: int) -> str:
    if b"\n" not in text:  # one line, of a file whose lines the caller counts
        return f"byte {byte}"
    line = text.count(b"\n", 0, byte) + 1
    column = byte - (text.rfind(b"\n", 0, byte) + 1) + 1
    return f"byte {byte} (line {line}, column {column})"
