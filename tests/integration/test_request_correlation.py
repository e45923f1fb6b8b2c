"""One id from the caller's header through the log of the gateway and of the API, the entries, and back."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import structlog

from fake_upstream import Reply
from gateway_tools import chat_answer, gateway
from journal_helpers import raw_event
from tallystick.api.logs import LineBuffer, configure_logging
from tallystick.app.find import find
from tallystick.app.keys import create_key


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is logged, as `tally serve` logs it."""
    stream = io.StringIO()
    monkeypatch.setattr("tallystick.api.app.LineBuffer", partial(LineBuffer, stream=stream))
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure_logging(stream)
    yield stream
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level


def test_the_log_the_ledger_and_the_provider_name_one_call_alike(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    with gateway(database_url, tmp_path, monkeypatch) as stand:
        stand.upstream.reply = Reply(body=chat_answer(), headers={"x-request-id": "prov-5"})
        answer = stand.post(x_tally_request_id="mine-1")
        refused = stand.post(x_tally_request_id="mine-2", x_tally_action="nonsense")
        operator = create_key(stand.runtime, org_id=None, scopes=["admin"], author="me").token
        with stand.client(authorization=f"Bearer {operator}") as client:
            api = client.post("/v1/events", json=[raw_event("e1"), raw_event("")], headers={"request-id": "http-1"})
        assert (answer.status_code, refused.status_code, api.status_code) == (200, 403, 207)
        (story,) = find(stand.runtime, "mine-1")["stories"]
    assert answer.headers["x-tally-request-id"] == "mine-1"
    assert refused.headers["x-tally-request-id"] == "mine-2"
    assert api.headers["request-id"] == "http-1"
    lines = {line["request_id"]: line for line in map(json.loads, log.getvalue().splitlines()) if "request_id" in line}
    call = lines["mine-1"]
    assert call["provider_request_id"] == "prov-5"
    told = {step["step"]: step for step in story["steps"]}
    assert told["call"]["provider_request_id"] == call["provider_request_id"]
    assert told["hold"]["hold_id"] == f"h{call['hold']}" == answer.headers["x-tally-hold"]
    assert str(told["usage"]["seq"]) == str(call["entry"]) == answer.headers["x-tally-entry"]
    assert told["decision"]["request_id"] == "mine-1"
    assert lines["mine-2"]["denied"] == "unknown_action"
    assert lines["http-1"]["path"] == "/v1/events"
