"""A gateway before a fake provider, as it runs in production, in a thread of the test: one org, one key, credits."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from account_operations import REFERENCE, subscribe
from fake_upstream import FakeUpstream, Reply
from http_callers import serving
from journal_helpers import query
from tallystick.app.grants import grant
from tallystick.app.keys import create_key
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.core.instants import Clock

PROVIDER_KEY = "sk-provider-planted-3141592653589793"
DEFAULTS = {"feature": "chat", "user_id": "u1", "session_id": "s1", "environment": "production"}
ACTION = {"x-tally-action": "tailor_document"}
DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
CHAT = "/openai/v1/chat/completions"
NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)

CHUNK = (
    'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"%s"},'
    '"finish_reason":%s}],"usage":null}\n\n'
)
USAGE = (
    'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-4o","choices":[],'
    '"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}}\n\n'
)
DONE = "data: [DONE]\n\n"
WORDS = ["Here ", "it ", "is, ", "sir."]
TEXT = "".join(CHUNK % (word, "null") for word in WORDS) + CHUNK % ("", '"stop"')
TWO = len((CHUNK % ("Here ", "null")) + (CHUNK % ("it ", "null")))
WHOLE = TEXT + USAGE + DONE
"""A stream of OpenAI's chat API, its usage asked for."""


def recorded(name: str) -> list[dict[str, Any]]:
    """Recorded answers of providers; the test is skipped where there are none."""
    file = DATA / name
    if not file.is_file():
        pytest.skip(f"the recorded data is not here: {file}")
    return [json.loads(line) for line in file.read_text().splitlines()]


def config(url: str, more: str = "", tools: str = "") -> str:
    """A gateway's file whose providers all are the fake one."""
    said = "".join(f"    {line}\n" for line in more.splitlines())
    bases = {"openai": url, "anthropic": url, "gemini": url, "other": f"{url}/base/v1"}
    providers = [
        f"  {name}:\n    base_url: {base}\n    key_env: TEST_PROVIDER_KEY\n{said}" for name, base in bases.items()
    ]
    return "providers:\n" + "".join(providers) + tools.replace("{url}", url)


class _Clients:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.free: list[httpx2.Client] = []


_CLIENTS = _Clients()
_NO_KEPT = httpx2.Limits(max_keepalive_connections=0)


@dataclass
class Stand:
    """A gateway that serves."""

    runtime: Runtime
    port: int
    token: str
    upstream: FakeUpstream

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **headers: str) -> httpx2.Client:
        return httpx2.Client(
            base_url=self.url, headers={"authorization": f"Bearer {self.token}", **headers}, timeout=30
        )

    def post(self, path: str = CHAT, body: Any = None, **headers: str) -> httpx2.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes) else json.dumps(chat() if body is None else body).encode()
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json", **ACTION, **sent}
        # A client takes longer to make than a call does; a connection that is used again could be one that was broken.
        with _CLIENTS.lock:
            client = _CLIENTS.free.pop() if _CLIENTS.free else httpx2.Client(timeout=30, limits=_NO_KEPT)
        try:
            return client.post(self.url + path, content=content, headers=headers)
        finally:
            with _CLIENTS.lock:
                _CLIENTS.free.append(client)

    def entries(self) -> list[dict[str, Any]]:
        """All entries of the org, as they stand."""
        rows = query(
            self.runtime,
            "select seq, kind, request_id, outcome, usage_status, model, provider, meter_names, meter_quantities,"
            " cost_pico, status,"
            " latency_ms, attributes, payer, api_key_id, body::text from ledger_entries where org_id = 'acme'"
            " and kind not in ('grant') order by seq",
        )
        names = (
            *("seq", "kind", "request_id", "outcome", "usage_status", "model", "provider", "meters", "quantities"),
            *("cost_pico", "status", "latency_ms", "attributes", "payer", "api_key_id", "body"),
        )
        entries = [dict(zip(names, row, strict=True)) for row in rows]
        for entry in entries:
            entry["meters"] = dict(zip(entry["meters"] or (), entry.pop("quantities") or (), strict=True))
        return entries

    def usage(self) -> list[dict[str, Any]]:
        return [entry for entry in self.entries() if entry["kind"] == "usage"]

    def settlements(self) -> list[dict[str, Any]]:
        return [json.loads(one["body"]) for one in self.entries() if one["kind"] == "settlement"]

    def open_holds(self) -> int:
        return int(query(self.runtime, "select count(*) from open_holds")[0][0])

    def wait_settled(self, holds: int) -> None:
        """Until so many holds are resolved."""
        wait_until(lambda: sum(one["kind"] in ("settlement", "release") for one in self.entries()) >= holds)
        assert self.open_holds() == 0


def wait_until(is_so: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def chat(**more: Any) -> dict[str, Any]:
    """A request of OpenAI's chat API."""
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": "Where is it?"}], "max_tokens": 100, **more}


def chat_answer(text: str = "Here.", tokens_in: int = 100, tokens_out: int = 20, **more: Any) -> bytes:
    """An answer of OpenAI's chat API; oddly written, so that a copy is told from a repetition."""
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_754_688_908,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out},
        **more,
    }
    return json.dumps(answer, indent=1).encode() + b"\n "


@contextmanager
def gateway(
    database_url: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    more: str = "",
    tools: str = "",
    plan: str = "credits",
    contract: str = REFERENCE,
    credits: str = "1000",
    clock: Clock = lambda: NOW,
    defaults: dict[str, str] = DEFAULTS,
    **settings: Any,
) -> Iterator[Stand]:
    """Serve until the block ends; in the end no hold is left open by a call that is over."""
    monkeypatch.setenv("TEST_PROVIDER_KEY", PROVIDER_KEY)
    with FakeUpstream(Reply(body=chat_answer())) as upstream:
        file = folder / "gateway.yaml"
        file.write_text(config(upstream.url, more, tools))
        terms = Settings(database_url=database_url, data_dir=folder, gateway_file=file, **settings)
        with open_runtime(terms, clock) as runtime:
            subscribe(runtime, "acme", plan=plan, contract=contract)
            members = {"request_id": "g1", "source": "promo", "credits": credits, "author": "a", "reason": "r"}
            grant(runtime, "acme", members)
            scopes = ["gateway", "tools"]
            key = create_key(runtime, org_id="acme", scopes=scopes, author="me", defaults=defaults)
            with serving(runtime) as port:
                yield Stand(runtime, port, key.token, upstream)
