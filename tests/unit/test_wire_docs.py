"""docs/gateway-file.md and docs/gateway-calls.md are true: the file loads, every key, reason and number is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from tallystick.wire import media_calls, prompt_bound
from tallystick.wire.asked import asked_of
from tallystick.wire.config import RouteTerms
from tallystick.wire.gateway_file import PROVIDER_KEYS, ROUTE_KEYS, TOOL_KEYS, read_gateway
from tallystick.wire.last_event import TERMINAL_NAMES
from tallystick.wire.outcome import Why
from tallystick.wire.tags import FIELDS

DOCS = Path(__file__).resolve().parents[2] / "docs"
FILE = (DOCS / "gateway-file.md").read_text(encoding="utf-8")
GATEWAY = (DOCS / "gateway.md").read_text(encoding="utf-8")
CALLS = (DOCS / "gateway-calls.md").read_text(encoding="utf-8")


def test_the_documented_file_loads():
    (text,) = re.findall(r"```yaml\n(.*?)```", FILE, flags=re.DOTALL)
    gateway = read_gateway(text, "docs")
    assert set(gateway.providers) == {"openai", "anthropic", "gemini", "groq", "claude-eu", "local"}
    assert gateway.tools["weather"].egress
    assert gateway.providers["groq"].terms_of("/v1/chat/completions").commit == "async"


@pytest.mark.parametrize("key", sorted({*PROVIDER_KEYS, *TOOL_KEYS, *ROUTE_KEYS}))
def test_every_key_is_documented(key):
    assert f"`{key}`" in FILE


def test_the_documented_defaults_hold():
    default = RouteTerms()
    assert f"| `tokens_in_max` | {default.tokens_in_max:,} |" in FILE
    assert f"| `tokens_out_max` | {default.tokens_out_max:,} |" in FILE
    assert f"| `total_timeout` | `{default.total_timeout_seconds // 60}m` |" in FILE
    assert f"| `on_disconnect` | `{default.on_disconnect}` |" in FILE
    assert f"| `commit` | `{default.commit}` |" in FILE


@pytest.mark.parametrize("why", get_args(Why))
def test_every_reason_is_documented(why):
    assert f"| `{why}` |" in CALLS


@pytest.mark.parametrize("header", sorted(FIELDS))
def test_every_tag_is_documented(header):
    assert f"`{header.decode()}`" in GATEWAY


def test_every_terminal_event_is_documented():
    named = {name.decode().replace("response.", "") for name in TERMINAL_NAMES} - {"error", "done"}
    assert {name for name in named if f"{name}`" not in CALLS} == set()


@pytest.mark.parametrize(
    "number",
    [
        prompt_bound.MARKERS_TOKENS,
        prompt_bound.TOOLS_TOKENS,
        prompt_bound.CLIENT_TOOL_TOKENS,
        prompt_bound.IMAGE_TOKENS,
        prompt_bound.IMAGE_TOKENS_OF_MODEL[0][1],
        prompt_bound.AUDIO_BYTES_PER_TOKEN,
        prompt_bound.VIDEO_BYTES_PER_TOKEN,
        prompt_bound.DOCUMENT_TOKENS_LEAST,
        prompt_bound.FILE_TOKENS,
        prompt_bound.MEDIA_TOKENS,
        media_calls.IMAGE_TOKENS_OUT,
    ],
)
def test_every_bound_is_documented(number):
    table = CALLS[CALLS.index("## The worst case") : CALLS.index("## What became of it")]
    assert re.search(rf"\b{number:,}\b", table)


def test_the_documented_paths_are_what_they_are_said_to_be():
    table = re.search(r"\| OpenAI \|(.*?)\|(.*?)\|(.*?)\|\n", CALLS)
    assert table is not None
    held, free, later = (re.findall(r"`([a-z_/]+)`", cell) for cell in table.groups())
    kinds = [[asked_of("openai", f"/v1/{end}", "", b"{}") for end in column] for column in (held, free, later)]
    assert all(not asked.free and not asked.deferred and asked.kind != "other" for asked in kinds[0])
    assert all(asked.free for asked in kinds[1])
    assert all(asked.deferred for asked in kinds[2])
    assert all(kinds)
