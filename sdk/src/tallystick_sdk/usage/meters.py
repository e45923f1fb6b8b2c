"""From the classes that providers state, which contain each other, to meters that never overlap.

`tokens_in` is what is left of the prompt after its cached, audio, image and video parts, `tokens_out` what is left of
the completion after reasoning: every token is counted once. Cached tokens that were audio are seldom stated as such:
where cached and audio tokens fit into the prompt side by side they lie side by side, else they overlap by the least
that fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tallystick_sdk.usage.reading import UsageUnreadable

KINDS: Final = ("audio", "image", "video")


def disjoint(stated: Mapping[str, int]) -> dict[str, int]:
    """The quantity of each meter, zeros left out.

    Args:
        stated: by class: `in` and `out` (the wholes), `cache_read`, `cache_write`, `cache_write_5m`, `cache_write_1h`,
            `tool`, `reasoning`, `audio_in`, `image_out` and so on, `cache_read_audio` and so on, `tool_audio` and so
            on; what else is there is a meter already.

    Raises:
        UsageUnreadable: `contradictory_usage`, when parts exceed their whole.
    """
    left = dict(stated)
    meters = {**_prompt(left), **_completion(left)}
    for name, count in left.items():
        meters[name] = meters.get(name, 0) + count
    return {name: count for name, count in meters.items() if count}


def _prompt(left: dict[str, int]) -> dict[str, int]:
    stated_cells = {kind: f"cache_read_{kind}" in left for kind in KINDS}
    read = _cached(left, "cache_read")
    write = _cached(left, "cache_write")
    lifetimes = {f"cache_write_{life}_tokens": left.pop(f"cache_write_{life}", 0) for life in ("5m", "1h")}
    if write["cache_write_tokens"]:
        write["cache_write_tokens"] = _rest("cache_write", write["cache_write_tokens"], lifetimes.values())
    write |= lifetimes
    kinds = {}
    for kind in KINDS:
        inside = (read[f"cache_read_{kind}_tokens"], write[f"cache_write_{kind}_tokens"])
        stated = left.pop(f"{kind}_in", None)
        kinds[kind] = 0 if stated is None else _rest(f"{kind}_in", stated, inside)
    tool = max(left.pop("tool", 0) - sum(left.pop(f"tool_{kind}", 0) for kind in KINDS), 0)
    parts = sum(read.values()) + sum(write.values()) + sum(kinds.values()) + tool
    whole = left.pop("in", parts)
    excess = max(parts - whole, 0)
    for kind in KINDS:
        if excess and not stated_cells[kind]:
            overlap = min(excess, kinds[kind], read["cache_read_tokens"])
            read["cache_read_tokens"] -= overlap
            read[f"cache_read_{kind}_tokens"] += overlap
            kinds[kind] -= overlap
            excess -= overlap
    if excess:
        raise _contradiction("in", whole, whole + excess)
    plain = whole - (sum(read.values()) + sum(write.values()) + sum(kinds.values()) + tool)
    return {
        "tokens_in": plain, **read, **write, "tool_prompt_tokens": tool,
        **{f"{kind}_tokens_in": count for kind, count in kinds.items()},
    }  # fmt: skip


def _completion(left: dict[str, int]) -> dict[str, int]:
    parts = {
        "reasoning_tokens": left.pop("reasoning", 0),
        **{f"{kind}_tokens_out": left.pop(f"{kind}_out", 0) for kind in KINDS},
    }
    whole = left.pop("out", sum(parts.values()))
    return {"tokens_out": _rest("out", whole, parts.values()), **parts}


def _cached(left: dict[str, int], way: str) -> dict[str, int]:
    cells = {f"{way}_{kind}_tokens": left.pop(f"{way}_{kind}", 0) for kind in KINDS}
    whole = left.pop(way, sum(cells.values()))
    return {f"{way}_tokens": _rest(way, whole, cells.values()), **cells}


def _rest(name: str, whole: int, parts: Iterable[int]) -> int:
    total = sum(parts)
    if total > whole:
        raise _contradiction(name, whole, total)
    return whole - total


def _contradiction(name: str, whole: int, total: int) -> UsageUnreadable:
    return UsageUnreadable(
        "contradictory_usage", f"its parts add up to {total}, more than the whole of {whole}", where=name
    )
