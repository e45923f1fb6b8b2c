"""Which endpoint of a provider's API a path leads to, and whose shape is spoken there.

A free route is one at which no model runs and nothing is billed by the call: lists, token counts, uploads. Only what is
known to be free is taken for free; an unknown path is `other`, and metered by what usage comes back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

Flavor = Literal["openai", "anthropic", "gemini"]
"""Whose API a provider speaks: how bodies, streams, errors and keys look."""

Kind = Literal[
    "chat", "responses", "completions", "embeddings", "images", "speech", "transcription", "messages", "generate",
    "count", "list", "deferred", "other",
]  # fmt: skip
"""What an endpoint does. `deferred`: the work is done after the answer, so that its usage does not pass here."""

PATH_CHARS_MAX: Final = 1024
"""No endpoint has a longer path; one that is longer is no endpoint that is known."""
FREE_KINDS: Final = frozenset({"count", "list"})
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_ID: Final = "[A-Za-z0-9_-]+"  # no dots: nothing that an upstream could read as another path is free

_OPENAI: tuple[tuple[str, Kind], ...] = (
    (r"chat/completions", "chat"),
    (r"responses(?:/compact)?", "responses"),
    (r"responses/input_tokens", "count"),
    (r"completions", "completions"),
    (r"embeddings", "embeddings"),
    (r"images/(?:generations|edits|variations)", "images"),
    (r"audio/speech", "speech"),
    (r"audio/(?:transcriptions|translations)", "transcription"),
    (rf"moderations|files|uploads(?:/{_ID}/(?:parts|complete|cancel))?", "list"),
    (rf"(?:responses|batches)/{_ID}/cancel|chat/completions/{_ID}|conversations(?:/{_ID}(?:/items)?)?", "list"),
    (r"batches|fine_tuning/.*|videos(?:/.*)?|evals(?:/.*)?|threads/(?:.*/)?runs(?:/.*)?|realtime/.*", "deferred"),
)
_ANTHROPIC: tuple[tuple[str, Kind], ...] = (
    (r"messages/count_tokens", "count"),
    (rf"messages/batches/{_ID}/cancel|files", "list"),
    (r"messages/batches", "deferred"),
    (r"messages", "messages"),
    (r"complete", "completions"),
)
_GEMINI_METHODS: Mapping[str, Kind] = MappingProxyType(
    {
        "generateContent": "generate",
        "streamGenerateContent": "generate",
        "embedContent": "embeddings",
        "batchEmbedContents": "embeddings",
        "countTokens": "count",
        "predict": "images",
        "predictLongRunning": "deferred",
        "batchGenerateContent": "deferred",
        "asyncBatchEmbedContent": "deferred",
    }
)
_GEMINI = re.compile(r"(?:^|/)(?:models|tunedModels|endpoints)/(?P<model>[^:]+):(?P<method>[A-Za-z]+)\Z")
_GEMINI_FREE = re.compile(r"(?:^|/)(?:upload/v[^/]+/)?files\Z")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


class Route(NamedTuple):
    """Where a path leads.

    Attributes:
        api: whose shape is spoken there; nearly always the provider's own flavor.
        model: the model that the path itself names.
        method: Gemini's method, such as `streamGenerateContent`; empty elsewhere.
    """

    kind: Kind
    api: Flavor
    model: str | None = None
    method: str = ""

    @property
    def free(self) -> bool:
        """Whether nothing is billed by the call."""
        return self.kind in FREE_KINDS


@lru_cache(maxsize=1024)
def route_of(flavor: Flavor, method: str, path: str) -> Route:
    """The route of a path, whatever stands before the endpoint's own name (a version, a project, a deployment).

    Args:
        method: the HTTP method. What only reads or deletes runs no model.
        path: as it was sent, without its query.
    """
    if method.upper() in _READS:
        return Route("list", flavor)
    if len(path) > PATH_CHARS_MAX:
        return Route("other", flavor)
    path = path.rstrip("/")
    own = _OWN[flavor](path)
    if own is not None:
        return own
    for other, find in _OWN.items():  # OpenAI's shape is spoken at other providers' addresses too, and so on
        found = find(path) if other != flavor else None
        if found is not None and not found.free:
            return found
    return Route("other", flavor)


def _table(api: Flavor, rows: tuple[tuple[str, Kind], ...]) -> tuple[Flavor, re.Pattern[str], tuple[Kind, ...]]:
    joined = "|".join(f"({pattern})" for pattern, _ in rows)
    return api, re.compile(rf"(?:^|/)(?:{joined})\Z"), tuple(kind for _, kind in rows)


_TABLES: Final = {"openai": _table("openai", _OPENAI), "anthropic": _table("anthropic", _ANTHROPIC)}


def _openai(path: str) -> Route | None:
    return _look_up("openai", path)


def _anthropic(path: str) -> Route | None:
    return _look_up("anthropic", path)


def _look_up(name: str, path: str) -> Route | None:
    api, pattern, kinds = _TABLES[name]
    match = pattern.search(path)
    return None if match is None else Route(kinds[(match.lastindex or 1) - 1], api)


def _gemini(path: str) -> Route | None:
    match = _GEMINI.search(path)
    if match is None:
        return Route("list", "gemini") if _GEMINI_FREE.search(path) else None
    kind = _GEMINI_METHODS.get(match["method"], "other")
    return Route(kind, "gemini", _unescaped(match["model"]), match["method"])


def _unescaped(text: str) -> str:
    raw = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), text.encode(errors="replace"))
    return raw.decode(errors="replace")


_OWN: Final = MappingProxyType({"openai": _openai, "anthropic": _anthropic, "gemini": _gemini})
