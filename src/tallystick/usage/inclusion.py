"""From the classes that providers state, which contain each other, to meters that never overlap.

A provider's `input_tokens` may contain cached, written, audio, picture and tool tokens; a stated class may
itself be split by kind (cached audio). Each meter is what is left of a class after its more specific
classes are taken out, so that every token is counted once and the meters add up to the whole.

Two cells of the table are seldom stated: which of the cached tokens were audio. When cached and audio tokens
together exceed the prompt, they must overlap, and the least overlap that fits is assumed; when they fit side
by side, no overlap is assumed. Tokens of a tool's prompt that are audio, pictures or video are counted by
their kind, since the kind decides their price.
"""

from __future__ import annotations

from collections.abc import Iterable

from tallystick.core.errors import BadInput
from tallystick.usage.reading import Reported

_KINDS = ("audio", "image", "video")

_CACHE_CELLS = {way: [f"cache_{kind}_{way}_tokens" for kind in ("text", *_KINDS)] for way in ("read", "write")}

_PLAIN = {
    "requests": "requests",
    "web_searches": "web_searches",
    "social_searches": "social_searches",
    "storage_searches": "storage_searches",
    "rerank_searches": "rerank_searches",
    "code_executions": "code_executions",
    "input_characters": "characters_in",
    "input_text_messages": "messages_in",
    "input_pixels": "pixels_in",
}
"""Classes that contain nothing and are contained in nothing."""


_WHOLES = frozenset({"input_tokens", "output_tokens"})
_USUAL = _WHOLES | {"cache_read_tokens", "output_reasoning_tokens"}
"""Most answers state no other classes, or zeros of them: what these come to is seen at once."""


def disjoint_meters(reported: Reported) -> dict[str, int]:
    """The quantity of each meter, zeros left out.

    Raises:
        BadInput: `contradictory_usage` when parts exceed their whole; it names the fields.
    """
    quantities = reported.quantities
    if quantities.keys() >= _WHOLES and not [key for key, count in quantities.items() if count and key not in _USUAL]:
        read, reasoning = reported["cache_read_tokens"], reported["output_reasoning_tokens"]
        plain_in, plain_out = quantities["input_tokens"] - read, quantities["output_tokens"] - reasoning
        if plain_in >= 0 and plain_out >= 0:
            meters = {
                "tokens_in": plain_in,
                "cache_read_tokens": read,
                "tokens_out": plain_out,
                "reasoning_tokens": reasoning,
            }
            return {name: quantity for name, quantity in meters.items() if quantity}
    return _all_meters(reported)


def _all_meters(reported: Reported) -> dict[str, int]:
    """The same, whatever classes there are."""
    meters = {
        **_input_meters(reported),
        **_output_meters(reported),
        **_split(
            reported,
            "audio_seconds",
            "audio_ms",
            input_audio_seconds="audio_in_ms",
            output_audio_seconds="audio_out_ms",
        ),
        **_split(reported, "input_document_pages", "pages_in", input_annotated_document_pages="annotated_pages_in"),
        **{meter: reported[usage_key] for usage_key, meter in _PLAIN.items() if usage_key in reported},
    }
    return {name: quantity for name, quantity in meters.items() if quantity}


def _input_meters(reported: Reported) -> dict[str, int]:
    read = _cache_meters(reported, "read")
    write = _cache_write_meters(reported)
    kinds = {kind: _rest(reported, f"input_{kind}_tokens", _cells(kind)) for kind in _KINDS}
    tool_cells = [f"input_{kind}_tool_tokens" for kind in _KINDS]
    tool = max(reported["input_tool_tokens"] - sum(reported[cell] for cell in tool_cells), 0)

    parts = sum(read.values()) + sum(write.values()) + sum(kinds.values()) + tool
    whole = _whole(reported, "input", parts)
    excess = max(parts - whole, 0)
    for kind in _KINDS:
        # Stated cells are the truth; an unstated one takes what cannot be explained otherwise.
        if excess and f"cache_{kind}_read_tokens" not in reported:
            overlap = min(excess, kinds[kind], read["cache_read_tokens"])
            read["cache_read_tokens"] -= overlap
            kinds[kind] -= overlap
            read[f"cache_read_{kind}_tokens"] += overlap
            excess -= overlap
    if excess:
        raise _contradiction(reported, "input_tokens", whole, whole + excess)
    plain = whole - (sum(read.values()) + sum(write.values()) + sum(kinds.values()) + tool)
    return {
        "tokens_in": plain,
        **read,
        **write,
        "tool_prompt_tokens": tool,
        **{f"{kind}_tokens_in": quantity for kind, quantity in kinds.items()},
    }


def _output_meters(reported: Reported) -> dict[str, int]:
    parts = {
        "reasoning_tokens": reported["output_reasoning_tokens"],
        "citation_tokens": reported["output_citation_tokens"],
        **{f"{kind}_tokens_out": reported[f"output_{kind}_tokens"] for kind in _KINDS},
    }
    total = sum(parts.values())
    whole = _whole(reported, "output", total)
    if total > whole:
        raise _contradiction(reported, "output_tokens", whole, total)
    return {"tokens_out": whole - total, **parts}


def _cells(kind: str) -> list[str]:
    return [f"cache_{kind}_read_tokens", f"cache_{kind}_write_tokens"]


def _cache_meters(reported: Reported, way: str) -> dict[str, int]:
    """Cache tokens of one way by kind; the total is the sum of its kinds where it is not stated."""
    total, stated = f"cache_{way}_tokens", _CACHE_CELLS[way]
    cells = {f"cache_{way}_{kind}_tokens": reported[f"cache_{kind}_{way}_tokens"] for kind in _KINDS}
    whole = reported[total] if total in reported else sum(reported[cell] for cell in stated)
    if sum(cells.values()) > whole:
        raise _contradiction(reported, total, whole, sum(cells.values()), stated)
    return {total: whole - sum(cells.values()), **cells}


def _cache_write_meters(reported: Reported) -> dict[str, int]:
    """Cache writes by lifetime; what no lifetime is stated for stays `cache_write_tokens`."""
    meters = _cache_meters(reported, "write")
    lifetimes = {name: reported[name] for name in ("cache_write_5m_tokens", "cache_write_1h_tokens")}
    known = sum(lifetimes.values())
    if "cache_write_tokens" in reported:
        if known > meters["cache_write_tokens"]:
            raise _contradiction(reported, "cache_write_tokens", meters["cache_write_tokens"], known, lifetimes)
        meters["cache_write_tokens"] -= known
    return {**meters, **lifetimes}


def _whole(reported: Reported, direction: str, parts: int) -> int:
    """The stated whole; without one, the sum of the stated kinds, or else of the parts."""
    whole = f"{direction}_tokens"
    if whole in reported:
        return reported[whole]
    kinds = [f"{direction}_{kind}_tokens" for kind in ("text", *_KINDS)]
    return max(sum(reported[kind] for kind in kinds), parts)


def _rest(reported: Reported, whole: str, parts: Iterable[str]) -> int:
    """What is left of a class after its own parts."""
    parts = list(parts)
    total = sum(reported[part] for part in parts)
    if whole not in reported:
        return 0
    if total > reported[whole]:
        raise _contradiction(reported, whole, reported[whole], total, parts)
    return reported[whole] - total


def _split(reported: Reported, whole: str, meter: str, **parts: str) -> dict[str, int]:
    """A class and its parts as meters: the whole keeps what its parts do not take."""
    taken = {name: reported[usage_key] for usage_key, name in parts.items()}
    if whole not in reported:
        return taken
    return {meter: _rest(reported, whole, parts), **taken}


def _contradiction(
    reported: Reported, whole: str, quantity: int, total: int, parts: Iterable[str] | None = None
) -> BadInput:
    if parts is None:
        direction = whole.partition("_")[0]
        parts = [key for key in reported.quantities if key != whole and (direction == "output") == ("output" in key)]
    names = reported.path(*(part for part in parts if reported[part]))
    return BadInput(
        "contradictory_usage",
        f"its parts ({names}) add up to {total}, more than the whole of {quantity}",
        next_step="check --provider and --flavor: another API may count these fields differently",
        where=reported.path(whole) or None,
    )
