"""A large request is looked at beside the event loop, so that other calls go on meanwhile; it passes as any other."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from fake_upstream import stream
from gateway_tools import CHAT, WHOLE, chat, gateway
from tallystick.gateway import model_calls
from tallystick.gateway.model_calls import LARGE_BODY_BYTES
from tallystick.wire.asked import Asked, asked_of


def test_a_large_body_is_looked_at_in_a_thread_of_its_own_and_passes_unchanged(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def noted(*arguments: Any, **named: Any) -> Asked:
        threads.append(threading.current_thread().name)
        return asked_of(*arguments, **named)

    monkeypatch.setattr(model_calls, "asked_of", noted)
    with gateway(database_url, tmp_path, monkeypatch, plan="pro") as stand:
        text = "é" * LARGE_BODY_BYTES
        large = chat(messages=[{"role": "user", "content": text}])
        small = chat()
        answers = [stand.post(CHAT, body=body) for body in (small, large, small)]
        twice = json.dumps(large).encode()[:-1] + b', "model": "gpt-4o"}'
        refused = stand.post(CHAT, body=twice)
        stand.upstream.reply = stream(WHOLE)
        streamed = stand.post(CHAT, body={**large, "stream": True})
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert stand.upstream.requests[1].json == large
    assert threads[0] == threads[2]
    assert threads[1] != threads[0]
    assert threads[3] != threads[0]
    assert refused.json()["error"]["code"] == "duplicate_key"
    assert streamed.status_code == 200
    assert stand.upstream.requests[-1].json["stream_options"] == {"include_usage": True}
