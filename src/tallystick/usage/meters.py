"""The built-in meters: countable quantities that never overlap, so that lines add up to the total.

Every token of a request is counted by exactly one meter. `tokens_in` is what is left of the prompt after
cached, audio, image, video and tool-prompt tokens are taken out, and `tokens_out` is what is left of the
completion after reasoning, audio, image and video tokens are taken out, whatever a provider's own
fields include. `falls_back_to` names the broader class whose price a provider charges for a class that
has no price of its own (a cache read at a provider without a cache discount costs what input costs).

Meters that a provider never bills (`tool_calls`, `egress_bytes`, whatever a contract declares) have no
cost; one that a provider bills but that has no rate makes the event `unpriced`, never free.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType

METER_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
QUANTITY_MAX = 10**12
"""The largest quantity of one meter in one event; larger ones are refused as absurd."""


@dataclass(frozen=True, slots=True)
class Meter:
    """A countable quantity.

    Attributes:
        name: stable name, unit last where the name alone does not say it.
        unit: what one of it is ("token", "call", "ms", "byte").
        prompt: counts towards the prompt size that long-context price cliffs look at.
        provider_billed: a provider may charge for it, so that a missing rate means `unpriced`.
        falls_back_to: the broader meters whose rate applies, in order, when it has none of its own.
    """

    name: str
    unit: str
    prompt: bool = False
    provider_billed: bool = True
    falls_back_to: tuple[str, ...] = ()


def _tokens_in(name: str, *falls_back_to: str) -> Meter:
    return Meter(name, "token", prompt=True, falls_back_to=falls_back_to)


def _tokens_out(name: str, *falls_back_to: str) -> Meter:
    return Meter(name, "token", falls_back_to=falls_back_to)


_MODALITIES = ("audio", "image", "video")

_BUILT_IN: tuple[Meter, ...] = (
    _tokens_in("tokens_in"),
    _tokens_in("cache_read_tokens", "tokens_in"),
    # A cache write whose lifetime the provider does not state; Anthropic's default is five minutes.
    _tokens_in("cache_write_tokens", "cache_write_5m_tokens", "tokens_in"),
    _tokens_in("cache_write_5m_tokens", "cache_write_tokens", "tokens_in"),
    _tokens_in("cache_write_1h_tokens", "cache_write_tokens", "tokens_in"),
    _tokens_in("tool_prompt_tokens", "tokens_in"),
    *(_tokens_in(f"{kind}_tokens_in", "tokens_in") for kind in _MODALITIES),
    *(
        _tokens_in(f"cache_{way}_{kind}_tokens", f"cache_{way}_tokens", f"{kind}_tokens_in", "tokens_in")
        for way in ("read", "write")
        for kind in _MODALITIES
    ),
    _tokens_out("tokens_out"),
    _tokens_out("reasoning_tokens", "tokens_out"),
    _tokens_out("citation_tokens", "tokens_out"),
    *(_tokens_out(f"{kind}_tokens_out", "tokens_out") for kind in _MODALITIES),
    Meter("requests", "request"),
    Meter("web_searches", "search"),
    Meter("social_searches", "search"),
    Meter("storage_searches", "search"),
    Meter("rerank_searches", "search"),
    Meter("code_executions", "execution"),
    Meter("images_generated", "image"),
    Meter("characters_in", "character"),
    Meter("messages_in", "message"),
    Meter("audio_ms", "ms"),
    Meter("audio_in_ms", "ms", falls_back_to=("audio_ms",)),
    Meter("audio_out_ms", "ms", falls_back_to=("audio_ms",)),
    Meter("pixels_in", "pixel"),
    Meter("pages_in", "page"),
    Meter("annotated_pages_in", "page", falls_back_to=("pages_in",)),
    Meter("tool_calls", "call", provider_billed=False),
    Meter("egress_bytes", "byte", provider_billed=False),
)

METERS: MappingProxyType[str, Meter] = MappingProxyType({meter.name: meter for meter in _BUILT_IN})
"""The built-in meters by name, in the order in which lines are shown."""

PROMPT_METERS = frozenset(meter.name for meter in _BUILT_IN if meter.prompt)
"""The meters whose sum is the prompt size of a request."""

_ORDER = {name: index for index, name in enumerate(METERS)}


def meter_order(name: str) -> tuple[int, str]:
    """A sort key: built-in meters in their own order, then declared ones by name."""
    return (_ORDER.get(name, len(_ORDER)), name)
