"""The gateway's file: what it may say, what holds where it is silent, and where its faults stand."""

from __future__ import annotations

import pytest

from tallystick.core.errors import Problems
from tallystick.wire.config import built_in
from tallystick.wire.gateway_file import read_gateway

WHOLE = """
providers:
  openai:
    key_file: /run/secrets/openai
    tokens_out_max: 8000
  groq:
    base_url: https://api.groq.com/openai/v1/
    key_env: GROQ_API_KEY
    connect_timeout: 5s
    read_timeout: 2m
    on_disconnect: cancel
    routes:
      chat/completions: {egress: true, commit: async}
      completions: {tokens_out_max: 16}
  vllm:
    base_url: http://127.0.0.1:8000
    ask_usage: false
  claude-eu:
    base_url: https://eu.example.com/anthropic
    flavor: anthropic
    provider: anthropic
    key_env: CLAUDE_EU
tools:
  weather_now:
    url: https://api.weather.example/v2/now
    key_env: WEATHER_KEY
    auth_header: X-Api-Key
    methods: [GET, POST, GET]
    total_timeout: 5s
    egress: true
"""


def faults(text):
    with pytest.raises(Problems) as caught:
        read_gateway(text, "gateway.yaml")
    assert caught.value.code == "invalid_gateway_file"
    assert all("contract" not in f"{each.detail}{each.next_step}" for each in caught.value.problems)
    return [(each.code, each.where) for each in caught.value.problems]


def provider(**lines):
    body = "".join(f"    {key}: {value}\n" for key, value in {"base_url": "https://x.example", **lines}.items())
    return f"providers:\n  mine:\n{body}"


def test_a_whole_file():
    gateway = read_gateway(WHOLE, "gateway.yaml")
    assert set(gateway.providers) == {"openai", "anthropic", "gemini", "groq", "vllm", "claude-eu"}
    groq = gateway.providers["groq"]
    assert (groq.base_url, groq.flavor, groq.provider) == ("https://api.groq.com/openai/v1", "openai", "groq")
    assert (groq.key_env, groq.key_file, groq.auth_header) == ("GROQ_API_KEY", None, "authorization")
    assert (groq.connect_timeout_seconds, groq.read_timeout_seconds) == (5, 120)
    claude = gateway.providers["claude-eu"]
    assert (claude.flavor, claude.provider, claude.auth_header) == ("anthropic", "anthropic", "x-api-key")
    assert gateway.providers["vllm"].key_env is None
    assert not gateway.providers["vllm"].ask_usage
    tool = gateway.tools["weather_now"]
    assert (tool.methods, tool.auth_header, tool.total_timeout_seconds) == (("GET", "POST"), "x-api-key", 5)


def test_what_is_built_in_stands_where_a_file_is_silent():
    openai = read_gateway(WHOLE, "g").providers["openai"]
    assert (openai.base_url, openai.key_file, openai.key_env) == ("https://api.openai.com", "/run/secrets/openai", None)
    assert openai.terms.tokens_out_max == 8000
    assert read_gateway("tools: {}", "g").providers == built_in().providers


def test_every_key_of_the_built_in_providers_comes_from_its_usual_variable():
    assert {name: each.key_env for name, each in built_in().providers.items()} == {
        "openai": "OPENAI_API_KEY",
        "anthropic": "ANTHROPIC_API_KEY",
        "gemini": "GEMINI_API_KEY",
    }


def test_a_routes_terms_are_the_providers_but_for_what_it_says():
    groq = read_gateway(WHOLE, "g").providers["groq"]
    chat = groq.terms_of("/v1/chat/completions")
    assert (chat.egress, chat.commit, chat.on_disconnect) == (True, "async", "cancel")
    assert chat.tokens_out_max == groq.terms.tokens_out_max
    assert groq.terms_of("/v1/completions/").tokens_out_max == 16
    assert groq.terms_of("/v1/embeddings") == groq.terms
    assert groq.terms_of("/v1/notchat/completions").egress is False


def test_a_gemini_route_is_named_by_its_method():
    text = "providers: {gemini: {routes: {streamGenerateContent: {egress: true}}}}"
    gemini = read_gateway(text, "g").providers["gemini"]
    assert gemini.terms_of("/v1beta/models/gemini-2.5-flash:streamGenerateContent").egress
    assert not gemini.terms_of("/v1beta/models/gemini-2.5-flash:generateContent").egress


@pytest.mark.parametrize(
    ("base", "rest", "address"),
    [
        ("https://api.openai.com", "/v1/chat/completions", "https://api.openai.com/v1/chat/completions"),
        ("https://api.groq.com/openai/v1", "/v1/models", "https://api.groq.com/openai/v1/models"),
        ("https://api.groq.com/openai/v1", "/models", "https://api.groq.com/openai/v1/models"),
        ("https://x.example/v1", "/v2/models", "https://x.example/v1/v2/models"),
        ("https://x.example/v1beta", "/v1beta/models/a:b", "https://x.example/v1beta/models/a:b"),
        ("https://x.example/api", "/api/models", "https://x.example/api/api/models"),
    ],
)
def test_a_path_is_put_behind_the_base_address(base, rest, address):
    mine = read_gateway(provider(base_url=base), "g").providers["mine"]
    assert mine.url_of(rest) == address


def test_a_key_is_carried_as_its_header_wants_it():
    gateway = built_in()
    assert gateway.providers["openai"].auth_value("k") == "Bearer k"
    assert gateway.providers["anthropic"].auth_value("k") == "k"
    assert gateway.providers["gemini"].auth_value("k") == "k"


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        (provider(base_url="ftp://x.example"), "invalid_url", "gateway.yaml:3: providers.mine.base_url"),
        (provider(base_url="https://user:secret@x.example"), "invalid_url", "gateway.yaml:3: providers.mine.base_url"),
        (provider(base_url="https://x.example?key=1"), "invalid_url", "gateway.yaml:3: providers.mine.base_url"),
        (provider(base_url="https://x.example#a"), "invalid_url", "gateway.yaml:3: providers.mine.base_url"),
        (provider(base_url="https://x.example:70000"), "invalid_url", "gateway.yaml:3: providers.mine.base_url"),
        (provider(base_url="https://x.example:0"), "invalid_url", "gateway.yaml:3: providers.mine.base_url"),
        (provider(base_url="//x.example"), "invalid_url", "gateway.yaml:3: providers.mine.base_url"),
        (provider(base_url="'https://x.example/a b'"), "invalid_url", "gateway.yaml:3: providers.mine.base_url"),
        (provider(key_env="sk-secret"), "invalid_name", "gateway.yaml:4: providers.mine.key_env"),
        (provider(flavor="cohere"), "unknown_value", "gateway.yaml:4: providers.mine.flavor"),
        (provider(commit="later"), "unknown_value", "gateway.yaml:4: providers.mine.commit"),
        (provider(on_disconnect="stop"), "unknown_value", "gateway.yaml:4: providers.mine.on_disconnect"),
        (provider(egress="yes"), "wrong_type", "gateway.yaml:4: providers.mine.egress"),
        (provider(read_timeout="fast"), "invalid_duration", "gateway.yaml:4: providers.mine.read_timeout"),
        (provider(total_timeout="2d"), "invalid_duration", "gateway.yaml:4: providers.mine.total_timeout"),
        (provider(tokens_out_max="0"), "too_small", "gateway.yaml:4: providers.mine.tokens_out_max"),
        (provider(tokens_in_max="9999999999"), "too_large", "gateway.yaml:4: providers.mine.tokens_in_max"),
        (provider(auth_header="'x y'"), "invalid_name", "gateway.yaml:4: providers.mine.auth_header"),
        (provider(baseurl="x"), "unknown_key", "gateway.yaml:4: providers.mine.baseurl"),
        (provider(routes="{/chat: {}}"), "invalid_name", "gateway.yaml:4: providers.mine.routes./chat"),
        (provider(routes="{chat: {key_env: A}}"), "unknown_key", "gateway.yaml:4: providers.mine.routes.chat.key_env"),
        ("providers:\n  mine: {}\n", "missing_key", "gateway.yaml:2: providers.mine"),
        ("providers:\n  V1: {base_url: 'https://x.example'}\n", "invalid_name", "gateway.yaml:2: providers.V1"),
        ("providers:\n  v1: {base_url: 'https://x.example'}\n", "invalid_name", "gateway.yaml:2: providers.v1"),
        ("providers:\n  a/b: {base_url: 'https://x.example'}\n", "invalid_name", "gateway.yaml:2: providers.a/b"),
        ("tools:\n  t: {}\n", "missing_key", "gateway.yaml:2: tools.t"),
        ("tools:\n  t: {url: 'https://x.example', methods: []}\n", "missing_value", "gateway.yaml:2: tools.t.methods"),
        (
            "tools:\n  t: {url: 'https://x.example', methods: [get]}\n",
            "unknown_value",
            "gateway.yaml:2: tools.t.methods[0]",
        ),
        ("upstreams: {}\n", "unknown_key", "gateway.yaml:1: upstreams"),
        ("providers: &a {}\n", "invalid_gateway_file", "gateway.yaml:1"),
        ("- a\n", "invalid_gateway_file", "gateway.yaml:1"),
        ("", "invalid_gateway_file", "gateway.yaml:1"),
    ],
)
def test_each_fault_says_its_place(text, code, where):
    assert (code, where) in faults(text)


def test_a_key_is_named_in_one_way():
    assert faults(provider(key_env="A", key_file="/b")) == [
        ("contradictory_keys", "gateway.yaml:5: providers.mine.key_file")
    ]


def test_what_may_be_a_secret_is_not_shown():
    for text in (provider(key_env="sk-live-secret"), provider(base_url="https://me:sk-live-secret@x.example")):
        with pytest.raises(Problems) as caught:
            read_gateway(text, "g")
        assert "sk-live-secret" not in str(caught.value)


def test_all_faults_of_a_file_are_told_together_in_the_order_of_its_lines():
    found = faults(provider(flavor="x", commit="y") + "tools:\n  t: {url: 'https://x.example', key: z}\n")
    assert [code for code, _ in found] == ["unknown_value", "unknown_value", "unknown_key"]
