"""What became of a call: whether it succeeded, and what it used, from the provider's answer as it came.

    answered       it succeeded, and the provider stated the usage
    nothing_said   it succeeded, and the answer is empty
    no_usage       it succeeded without stating its usage, or so that it cannot be read: estimated
    refused        the provider answered with an error
    error_body     the provider said 200, and its answer is an error
    garbage        the answer is nothing that could be read
    broke_off      the answer ends before its end, or in an error: what was generated is recorded
    caller_left    the caller went away first: what was generated is recorded

Nothing here loses what was used: where a provider states no usage, it is estimated from bytes and marked so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from tallystick.core.errors import BadInput
from tallystick.usage.detect import provider_id
from tallystick.usage.event import Outcome, UsageStatus
from tallystick.usage.extract import MODEL_NAME_MAX, Extracted, Part, decode_body, extract, provider_refusal
from tallystick.usage.streams import UsageStream, estimate_tokens, prompt_bytes
from tallystick.usage.table import ExtractorTable
from tallystick.wire.answer_text import is_empty_answer, text_bytes_of, usage_shape
from tallystick.wire.asked import Asked
from tallystick.wire.media_calls import MEDIA_KINDS, estimate_of_media
from tallystick.wire.packing import UNPACKED_BYTES_MAX, unpack

Why = Literal["answered", "nothing_said", "no_usage", "refused", "error_body", "garbage", "broke_off", "caller_left"]
Ended = Literal["whole", "broken", "left"]
"""How an answer ended: the provider ended it, its connection broke, or the caller left."""

_HOME: Final = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}
_FLAVORS: Final = {
    ("openai", "chat"): "chat",
    ("openai", "responses"): "responses",
    ("anthropic", "messages"): "default",
    ("google", "generate"): "default",
}
"""Which of a provider's flavors an endpoint answers in, where that is certain; of others the one that fits is found."""
_GENERATES: Final = frozenset({"chat", "responses", "completions", "messages", "generate"})
_ESTIMATED: Final = _GENERATES | {"embeddings"}
_MARKER_TOKENS: Final = 8
"""An answer without text can have a few tokens all the same, for its end."""
_NOTHING: Final = frozenset({"provider_error", "no_usage"})
"""Why the fold of a stream has nothing to say; with any other reason it had something that could not be read."""
DETAIL_CHARS_MAX: Final = 300
ERROR_BYTES_MAX: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a call.

    Attributes:
        outcome: as the contract charges it.
        extracted: what it used; None when nothing was, or nothing is known.
        detail: what the provider said, or what could not be read; empty when all is well.
    """

    outcome: Outcome
    extracted: Extracted | None
    why: Why
    detail: str = ""

    @property
    def usage_status(self) -> UsageStatus:
        """How far the quantities can be trusted."""
        return self.extracted.status if self.extracted is not None else "final"


def usage_stream(
    table: ExtractorTable, asked: Asked, provider: str, request: Mapping[str, Any] | None = None
) -> UsageStream:
    """The fold for a streamed answer of a provider.

    Args:
        provider: by its id in the rate card, or another usual name.
        request: the decoded request, to estimate the prompt when the answer states no usage.
    """
    return UsageStream(table, provider=_reader(table, asked, provider), model=asked.model, request=request)


def judge(
    table: ExtractorTable,
    asked: Asked,
    provider: str,
    *,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    request: Mapping[str, Any] | None = None,
    ended: Ended = "whole",
    unpacked_bytes_max: int = UNPACKED_BYTES_MAX,
) -> Judged:
    """What became of a call whose answer came as one body. It never raises.

    Args:
        table: the extractors.
        provider: as of `usage_stream`.
        headers: of the answer, looked up by lower-case names.
        body: as it came, packed or not.
        request: the decoded request, for estimates.
        ended: how the answer ended.
    """
    packed_as = headers.get("content-encoding", "")
    if not 200 <= status < 300:
        return Judged("failure", None, "refused", _said(body, packed_as, status))
    if asked.free:
        return Judged("success", None, "answered")
    return _of_body(table, asked, provider, headers, body, request, ended, unpacked_bytes_max)


def _of_body(
    table: ExtractorTable,
    asked: Asked,
    provider: str,
    headers: Mapping[str, str],
    body: bytes,
    request: Mapping[str, Any] | None,
    ended: Ended,
    unpacked_bytes_max: int,
) -> Judged:
    """Of a body that came with a status of success."""
    packed_as = headers.get("content-encoding", "")
    try:
        plain = unpack(body, packed_as, unpacked_bytes_max)
    except BadInput as error:
        if ended == "left":
            return Judged("success", _estimate(table, asked, provider, {}, 0, request), "caller_left")
        return Judged("failure", None, "broke_off" if ended == "broken" else "garbage", _short(str(error)))
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/event-stream" or plain[:64].lstrip().startswith((b"[", b"data:", b"event:", b":")):
        stream = usage_stream(table, asked, provider, request)
        try:
            stream.feed(plain)
        except BadInput as error:
            return Judged("failure", None, "garbage", _short(str(error)))
        return judge_stream(table, asked, provider, stream, request=request, ended=ended)
    try:
        answer = decode_body(plain)
    except BadInput as error:
        return _unreadable(table, asked, provider, kind, plain, request, ended, error)
    return _of_answer(table, asked, provider, answer, request)


def judge_stream(
    table: ExtractorTable,
    asked: Asked,
    provider: str,
    stream: UsageStream,
    *,
    request: Mapping[str, Any] | None = None,
    ended: Ended = "whole",
) -> Judged:
    """What became of a call whose answer was streamed with a status of 200, now that no more of it comes.

    Args:
        table, provider, request: as of `judge`.
        stream: the fold that every byte was fed to, unpacked.
        ended: how the answer ended. What the caller did not wait for counts as success: it was generated for them.
    """
    detail, used = "", None
    try:
        used = _named(stream.finish(), provider)
    except BadInput as error:
        detail = _short(str(error))
        # Who leaves before the first word has had the prompt read; a connection that breaks before it, nothing.
        if error.code not in _NOTHING or ended == "left" or (ended == "broken" and stream.text_bytes):
            used = _estimate(table, asked, provider, {}, stream.text_bytes, request)
    if stream.refusal is not None:
        return Judged("failure", used, "broke_off" if used else "error_body", _short(stream.refusal))
    return _of_stream(asked, stream, used, ended, detail)


def _of_stream(asked: Asked, stream: UsageStream, used: Extracted | None, ended: Ended, detail: str) -> Judged:
    if ended == "left" and (used is None or used.status != "final"):
        return Judged("success", used, "caller_left", detail)
    if used is None:
        return Judged("failure", None, "garbage" if ended == "whole" else "broke_off", detail)
    if used.status == "final" or (stream.is_complete and ended == "whole"):
        if asked.kind in _GENERATES and _is_empty_stream(stream, used):
            return Judged("empty", used, "nothing_said")
        return Judged("success", used, "answered" if used.status == "final" else "no_usage", detail)
    return Judged("failure", used, "broke_off", detail or "the stream ended before its end")


# ── whole bodies ────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_answer(
    table: ExtractorTable, asked: Asked, provider: str, answer: dict[str, Any], request: Mapping[str, Any] | None
) -> Judged:
    said = _error_in(answer)
    detail = ""
    used: Extracted | None = None
    try:
        used = _extract(table, asked, provider, answer)
    except BadInput as error:
        detail = _short(str(error))
    if said is not None:
        return Judged("failure", used, "error_body", _short(said))
    if used is None:
        used = _estimate(table, asked, provider, answer, text_bytes_of(answer), request)
        return Judged("success", used, "no_usage", detail)
    if is_empty_answer(asked.kind, answer):
        return Judged("empty", used, "nothing_said")
    return Judged("success", used, "answered")


def _extract(
    table: ExtractorTable, asked: Asked, provider: str, answer: Mapping[str, Any], status: UsageStatus = "final"
) -> Extracted:
    reader = _reader(table, asked, provider)
    flavor = _FLAVORS.get((reader, asked.kind))
    if flavor is not None:
        try:
            used = extract(table, answer, provider=reader, flavor=flavor, model=asked.model, status=status)
            return _named(used, provider)
        except BadInput:  # another of its APIs after all
            pass
    try:
        used = extract(table, answer, provider=reader, model=asked.model, status=status)
    except BadInput:
        home = _HOME[asked.api]
        if reader == home:
            raise
        used = extract(table, answer, provider=home, model=asked.model, status=status)
    return _named(used, provider)


def _estimate(
    table: ExtractorTable,
    asked: Asked,
    provider: str,
    answer: Mapping[str, Any],
    text_bytes: int,
    request: Mapping[str, Any] | None,
) -> Extracted | None:
    if asked.kind in MEDIA_KINDS:
        return _estimate_media(asked, provider, answer)
    if asked.kind not in _ESTIMATED:
        return None
    tokens_in = estimate_tokens(prompt_bytes(request or {}))
    shaped = usage_shape(asked.kind, tokens_in, estimate_tokens(text_bytes))
    named = ((name, answer.get(name)) for name in ("model", "modelVersion"))
    model = {name: text for name, text in named if isinstance(text, str) and len(text) <= MODEL_NAME_MAX}
    try:
        used = extract(table, {**model, **shaped}, provider=_HOME[asked.api], model=asked.model, status="estimated")
    except BadInput:
        return None
    return _named(used, provider)


def _estimate_media(asked: Asked, provider: str, answer: Mapping[str, Any]) -> Extracted | None:
    meters = estimate_of_media(
        asked.kind,
        asked.model,
        text_tokens=estimate_tokens(asked.prompt.tokens or 0),
        characters=asked.characters,
        file_bytes=asked.file_bytes,
        answer=answer,
    )
    part = Part(meters)
    return Extracted(provider_id(provider), asked.kind, asked.model, (part,), status="estimated") if meters else None


def _unreadable(
    table: ExtractorTable,
    asked: Asked,
    provider: str,
    kind: str,
    plain: bytes,
    request: Mapping[str, Any] | None,
    ended: Ended,
    error: BadInput,
) -> Judged:
    """Of an answer that is no JSON object: sound and pictures are none; what broke off is estimated by its length."""
    if ended != "whole":
        used = _estimate(table, asked, provider, {}, len(plain), request)
        if ended == "left":
            return Judged("success", used, "caller_left")
        return Judged("failure", used, "broke_off", _short(str(error)))
    if asked.kind == "other":
        return Judged("success", None, "no_usage", _short(str(error)) if plain else "")
    if asked.kind not in _ESTIMATED and plain and kind not in ("application/json", "text/html"):
        return Judged("success", _estimate(table, asked, provider, {}, 0, request), "no_usage")
    return Judged("failure", None, "garbage", _short(str(error)))


def _error_in(answer: Mapping[str, Any]) -> str | None:
    """What an answer says that is an error although its status was 200."""
    if answer.get("error") or answer.get("type") == "error":
        return provider_refusal(answer)
    if answer.get("status") == "failed":
        return provider_refusal(answer) or "the response failed"
    choices = answer.get("choices")
    if isinstance(choices, list) and choices:
        errors = [choice.get("error") for choice in choices if isinstance(choice, Mapping)]
        if errors and all(errors):
            return provider_refusal({"error": errors[0]})
    return None


def _said(body: bytes, packed_as: str, status: int) -> str:
    try:
        answer = decode_body(unpack(body, packed_as, ERROR_BYTES_MAX))
        return _short(provider_refusal(answer) or f"status {status}")
    except BadInput:
        return f"status {status}"


def _is_empty_stream(stream: UsageStream, used: Extracted) -> bool:
    if stream.said_bytes or used.status != "final":
        return False
    counts = used.meters
    other = [quantity for name, quantity in counts.items() if name.endswith(("_tokens_out", "searches"))]
    return not any(other) and counts.get("tokens_out", 0) <= _MARKER_TOKENS


def _reader(table: ExtractorTable, asked: Asked, provider: str) -> str:
    """Whose shapes to read an answer by: the provider's own, or those of the API that it speaks."""
    name = provider_id(provider)
    return name if name in table.rows else _HOME[asked.api]


def _named(used: Extracted, provider: str) -> Extracted:
    """What was used, with the provider that is to be paid for it."""
    name = provider_id(provider)
    return used if used.provider == name else replace(used, provider=name)


def _short(text: str) -> str:
    return text[:DETAIL_CHARS_MAX]
