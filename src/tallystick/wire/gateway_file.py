"""The gateway's file: which providers and tools there are, and how they are spoken to. YAML, checked with positions.

    providers:
      openai:                                  # built in: openai, anthropic, gemini; what is said here prevails
        key_file: /run/secrets/openai
      groq:
        base_url: https://api.groq.com/openai
        key_env: GROQ_API_KEY
        routes:
          chat/completions: {egress: true, commit: async}
    tools:
      weather:
        url: https://api.weather.example/v2/forecast
        key_env: WEATHER_KEY
        methods: [GET]

Keys never stand in the file: it names the environment variable or the file that has them. Upstream hosts come from here
alone.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final, cast

from tallystick.contract.document import parse_document
from tallystick.contract.fields import Fields, Place
from tallystick.core.errors import BadInput, Problems
from tallystick.wire.config import (
    AUTH_HEADERS,
    BUILT_IN,
    Commit,
    Gateway,
    OnDisconnect,
    Provider,
    RouteTerms,
    Tool,
)
from tallystick.wire.routes import Flavor

NEXT_STEP: Final = "mend the gateway's file where each line says, then start the server again"
PROVIDER_KEYS: Final = (
    "base_url", "key_env", "key_file", "flavor", "provider", "auth_header", "connect_timeout", "read_timeout",
    "total_timeout", "tokens_in_max", "tokens_out_max", "ask_usage", "on_disconnect", "commit", "egress", "routes",
)  # fmt: skip
TOOL_KEYS: Final = (
    "url", "methods", "key_env", "key_file", "auth_header", "connect_timeout", "total_timeout", "commit", "egress",
)  # fmt: skip
ROUTE_KEYS: Final = ("on_disconnect", "commit", "egress", "tokens_in_max", "tokens_out_max", "total_timeout")
RESERVED_NAMES: Final = frozenset({"v1", "tool", "tools", "healthz", "readyz", "metrics", "docs", "redoc", "openapi"})
TIMEOUT_MAX: Final = timedelta(hours=24)
TOKENS_MAX: Final = 10**9

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*)"
)
_PROVIDER_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,30}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_HEADER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_ROUTE: Final = re.compile(r"[A-Za-z0-9_:.-]+(?:/[A-Za-z0-9_:.-]+)*")
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


def read_gateway(text: str, file: str) -> Gateway:
    """The gateway that a file describes, the built-in providers among it.

    Args:
        text: the whole file, YAML.
        file: what errors call it.

    Raises:
        Problems: `invalid_gateway_file`, with every error found; each one's `where` is "FILE:LINE: key.path".
    """
    try:
        root, problems = parse_document(text, file, "a gateway's file")
    except Problems as error:
        raise _refusal(error.problems) from None
    place = Place(file, "", root.line, root, problems)
    fields = place.fields("providers", "tools")
    given = fields.get("providers", lambda at: at.table(_read_provider), {})
    tools = fields.get("tools", lambda at: at.table(_read_tool), {})
    if problems:
        raise _refusal(problems)
    return Gateway(providers={**BUILT_IN, **given}, tools=tools)


def _refusal(problems: tuple[BadInput, ...] | list[BadInput]) -> Problems:
    ours = {
        (_line(one.where), str(one)): BadInput(
            "invalid_gateway_file" if one.code == "invalid_contract" else one.code,
            one.detail,
            next_step=NEXT_STEP,
            where=one.where,
        )
        for one in problems
    }
    return Problems("invalid_gateway_file", [one for _, one in sorted(ours.items())], next_step=NEXT_STEP)


def _line(where: str | None) -> int:
    match = re.search(r":(\d+)(?:: |$)", where or "")
    return int(match[1]) if match else 0


# ── one upstream ────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_provider(name: str, place: Place) -> Provider:
    if not _PROVIDER_NAME.fullmatch(name) or name in RESERVED_NAMES:
        rule = "1 to 31 lower-case letters, digits and -, beginning with a letter, and no name that is taken"
        raise place.refusal("invalid_name", f"{name[:80]!r} cannot be a provider's part of a path: {rule}")
    fields = place.fields(*PROVIDER_KEYS)
    known = BUILT_IN.get(name)
    flavor = cast(
        Flavor,
        fields.get(
            "flavor", lambda at: at.choice(("openai", "anthropic", "gemini")), known.flavor if known else "openai"
        ),
    )
    base = fields.get("base_url", _url, known.base_url) if known else fields.need("base_url", _url, "http://unknown")
    key_env, key_file = _key(fields, known)
    terms = _read_terms(fields, RouteTerms())
    return Provider(
        name=name,
        base_url=base.rstrip("/"),
        flavor=flavor,
        provider=fields.get("provider", Place.name, known.provider if known else name),
        key_env=key_env,
        key_file=key_file,
        auth_header=fields.get("auth_header", _header, AUTH_HEADERS[flavor]),
        connect_timeout_seconds=fields.get("connect_timeout", _seconds, 10),
        read_timeout_seconds=fields.get("read_timeout", _seconds, 300),
        ask_usage=fields.get("ask_usage", Place.flag, True),
        terms=terms,
        routes=fields.get("routes", lambda at: at.table(lambda end, route: _read_route(end, route, terms)), {}),
    )


def _read_route(end: str, place: Place, terms: RouteTerms) -> RouteTerms:
    if not _ROUTE.fullmatch(end):
        rule = "the end of a path, such as chat/completions, without a slash before it"
        raise place.refusal("invalid_name", f"{end[:80]!r} is not a route: {rule}")
    return _read_terms(place.fields(*ROUTE_KEYS), terms)


def _read_terms(fields: Fields, default: RouteTerms) -> RouteTerms:
    return RouteTerms(
        tokens_in_max=fields.get("tokens_in_max", _tokens, default.tokens_in_max),
        tokens_out_max=fields.get("tokens_out_max", _tokens, default.tokens_out_max),
        on_disconnect=cast(
            OnDisconnect, fields.get("on_disconnect", lambda at: at.choice(("drain", "cancel")), default.on_disconnect)
        ),
        commit=_commit(fields, default.commit),
        egress=fields.get("egress", Place.flag, default.egress),
        total_timeout_seconds=fields.get("total_timeout", _seconds, default.total_timeout_seconds),
    )


def _read_tool(name: str, place: Place) -> Tool:
    if not _PROVIDER_NAME.fullmatch(name.replace("_", "-")):
        rule = "1 to 31 lower-case letters, digits, - and _, beginning with a letter"
        raise place.refusal("invalid_name", f"{name[:80]!r} cannot be a tool's part of a path: {rule}")
    fields = place.fields(*TOOL_KEYS)
    key_env, key_file = _key(fields, None)
    methods = fields.get("methods", lambda at: at.sequence(lambda one: one.choice(_METHODS), 1), ("POST",))
    return Tool(
        name=name,
        url=fields.need("url", _url, "http://unknown"),
        methods=tuple(dict.fromkeys(methods)),
        key_env=key_env,
        key_file=key_file,
        auth_header=fields.get("auth_header", _header, "authorization"),
        connect_timeout_seconds=fields.get("connect_timeout", _seconds, 10),
        total_timeout_seconds=fields.get("total_timeout", _seconds, 60),
        commit=_commit(fields, "before_response"),
        egress=fields.get("egress", Place.flag, False),
    )


def _key(fields: Fields, known: Provider | None) -> tuple[str | None, str | None]:
    """Where the key is: said in one of two ways; what is said prevails over what is built in."""
    if {"key_env", "key_file"} <= fields.given:
        fields.at("key_file").note("contradictory_keys", "key_env says already where the key is; leave one of them out")
    if not {"key_env", "key_file"} & fields.given:
        return (known.key_env, known.key_file) if known else (None, None)
    return fields.get("key_env", _variable, None), fields.get("key_file", Place.text, None)


def _commit(fields: Fields, default: Commit) -> Commit:
    return cast(Commit, fields.get("commit", lambda at: at.choice(("before_response", "async")), default))


def _url(place: Place) -> str:
    value = place.scalar("an address such as https://api.example.com").text
    if "@" in value.partition("://")[2].partition("/")[0]:
        raise place.refusal("invalid_url", "an address has no user and password; name the key with key_env or key_file")
    match = _URL.fullmatch(value)
    if match is None or not 0 < int(match["port"] or 1) < 65_536:
        rule = "http or https, a host, perhaps a port and a path, and neither a query nor a fragment"
        raise place.refusal("invalid_url", f"{value[:80]!r} is not an address that can be called: {rule}")
    return value


def _variable(place: Place) -> str:
    value = place.scalar("the name of an environment variable").text
    if not _VARIABLE.fullmatch(value):
        # It may be the key itself, which is not to be shown.
        raise place.refusal(
            "invalid_name", "this is not the name of an environment variable; the key has no place here"
        )
    return value


def _header(place: Place) -> str:
    value = place.scalar("the name of a header").text
    if not _HEADER.fullmatch(value):
        raise place.refusal("invalid_name", f"{value[:80]!r} is not the name of a header")
    return value.lower()


def _seconds(place: Place) -> int:
    value = place.duration()
    if value > TIMEOUT_MAX:
        raise place.refusal("invalid_duration", "a call may take 24 hours at most")
    return int(value.total_seconds())


def _tokens(place: Place) -> int:
    value = place.integer(least=1)
    if value > TOKENS_MAX:
        raise place.refusal("too_large", f"{TOKENS_MAX:,} tokens is the most")
    return value
