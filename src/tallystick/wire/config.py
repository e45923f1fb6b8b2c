"""The gateway's upstreams: which providers and tools there are, and how they are spoken to.

Upstream hosts come from here alone; `gateway_file` reads them from the operator's file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from tallystick.wire.routes import Flavor

Commit = Literal["before_response", "async"]
OnDisconnect = Literal["drain", "cancel"]

_VERSION: Final = re.compile(r"v[0-9][0-9a-z]*")


class RouteTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How the calls of a route are handled.

    Attributes:
        tokens_in_max: the most tokens of a prompt whose size its request does not tell.
        tokens_out_max: the most tokens of an answer that its request does not bound.
        on_disconnect: what to do when the caller leaves: read the answer to its end, or break it off.
        commit: whether the settlement is committed before the answer is complete, or queued durably.
        egress: whether bytes to the caller are metered as `egress_bytes`.
        total_timeout_seconds: how long a call may take in all.
    """

    tokens_in_max: int = 128_000
    tokens_out_max: int = 4_096
    on_disconnect: OnDisconnect = "drain"
    commit: Commit = "before_response"
    egress: bool = False
    total_timeout_seconds: int = 600


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream.

    Attributes:
        name: the first part of the gateway's path.
        base_url: what the rest of the path is put behind; without a slash at its end.
        flavor: whose API it speaks.
        provider: who answers, by the rate card's id.
        key_env, key_file: where its key is; neither when it needs none, or callers bring their own.
        auth_header: the header that carries the key, in lower case; `authorization` carries it as a bearer token.
        ask_usage: whether it takes `stream_options.include_usage`.
        terms: of every route that has none of its own.
        routes: terms by the end of a path, such as `chat/completions`.
    """

    name: str
    base_url: str
    flavor: Flavor
    provider: str
    key_env: str | None = None
    key_file: str | None = None
    auth_header: str = "authorization"
    connect_timeout_seconds: int = 10
    read_timeout_seconds: int = 300
    ask_usage: bool = True
    terms: RouteTerms = RouteTerms()
    routes: Mapping[str, RouteTerms] = {}

    def url_of(self, rest: str) -> str:
        """The upstream's address of a path, `rest` being what follows the provider's name, with its slash.

        A version that the base address ends with and the path begins with stands there once.
        """
        base, first = self.base_url, rest[1:].partition("/")[0]
        if _VERSION.fullmatch(first) and base.endswith(f"/{first}"):
            base = base[: -len(first) - 1]
        return base + rest

    def terms_of(self, path: str) -> RouteTerms:
        """The terms of a path: those of the longest route that it ends with."""
        if not self.routes:
            return self.terms
        fitting = [end for end in self.routes if path.rstrip("/").endswith((f"/{end}", f":{end}"))]
        return self.routes[max(fitting, key=len)] if fitting else self.terms

    def auth_value(self, key: str) -> str:
        """What `auth_header` says for this key."""
        return f"Bearer {key}" if self.auth_header == "authorization" else key


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """An external API that is called through the gateway, and metered by the call.

    Attributes:
        url: the whole address.
        methods: those that it may be called with.
    """

    name: str
    url: str
    methods: tuple[str, ...] = ("POST",)
    key_env: str | None = None
    key_file: str | None = None
    auth_header: str = "authorization"
    connect_timeout_seconds: int = 10
    total_timeout_seconds: int = 60
    commit: Commit = "before_response"
    egress: bool = False

    def auth_value(self, key: str) -> str:
        """What `auth_header` says for this key."""
        return f"Bearer {key}" if self.auth_header == "authorization" else key


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """Every upstream, by name."""

    providers: Mapping[str, Provider]
    tools: Mapping[str, Tool] = {}


BUILT_IN: Final[Mapping[str, Provider]] = MappingProxyType(
    {
        "openai": Provider(
            name="openai",
            base_url="https://api.openai.com",
            flavor="openai",
            provider="openai",
            key_env="OPENAI_API_KEY",
        ),
        "anthropic": Provider(
            name="anthropic",
            base_url="https://api.anthropic.com",
            flavor="anthropic",
            provider="anthropic",
            key_env="ANTHROPIC_API_KEY",
            auth_header="x-api-key",
        ),
        "gemini": Provider(
            name="gemini",
            base_url="https://generativelanguage.googleapis.com",
            flavor="gemini",
            provider="google",
            key_env="GEMINI_API_KEY",
            auth_header="x-goog-api-key",
        ),
    }
)
AUTH_HEADERS: Final[Mapping[str, str]] = {
    "openai": "authorization",
    "anthropic": "x-api-key",
    "gemini": "x-goog-api-key",
}


def built_in() -> Gateway:
    """The gateway where there is no file."""
    return Gateway(providers=dict(BUILT_IN))
