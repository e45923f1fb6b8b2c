"""A caller's key in the wrong place of a request is in no table, no log line, no export and no answer afterwards."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog

from fake_upstream import Reply
from gateway_tools import Stand, chat, chat_answer, gateway
from journal_helpers import raw_event
from tallystick.api.logs import LineBuffer, configure_logging
from tallystick.app.keys import create_key
from tallystick.app.seal import seal_once

FIELDS = ("request_id", "user_id", "session_id", "feature", "environment", "model", "provider", "api_key_id", "action")
HEADERS = ("feature", "user", "session", "environment", "action", "work-key", "request-id", "attribute-note")


def attempts(stand: Stand, key: str, operator: str) -> list[tuple[int, str]]:
    """A call of each kind with the key in each text of it, and how that was answered."""
    told: list[tuple[int, str]] = []
    shared = {"org_id": "acme", "request_id": "a1", "user_id": "u", "session_id": "s", "feature": "f"}
    asked = {**shared, "environment": "production", "action": "tailor_document", "model": "gpt-4o"}
    more = {"attributes": {"note": f"it is {key}"}}, {"attributes": {key: "x"}}, {"price_context": {"speed": key}}
    events = [{**raw_event("e1"), field: key} for field in FIELDS] + [raw_event("e1", **each) for each in more]
    with stand.client(authorization=f"Bearer {operator}") as client:

        def post(path: str, body: Any) -> None:
            answer = client.post(path, json=body)
            told.append((answer.status_code, answer.text))

        for event in events:
            post("/v1/events", event)
        post("/v1/events", [raw_event("good"), *events])
        post("/v1/events", {**raw_event(key), key: 1})
        for field in ("request_id", "user_id", "session_id", "feature", "work_key", "api_key_id", "model"):
            post("/v1/authorize", {**asked, field: key})
        post("/v1/settle", {"org_id": "acme", "hold_id": key, "outcome": "success", "events": []})
        post("/v1/release", {"org_id": "acme", "hold_id": "h2", "reason": key})
        signed = {"request_id": "g2", "source": "promo", "credits": "1", "author": "ann", "reason": "r"}
        for field in ("request_id", "author", "reason"):
            post("/v1/orgs/acme/grants", {**signed, field: key})
        found = client.get(f"/v1/orgs/{key}/wallet", headers={"request-id": key})
        told.append((found.status_code, found.text + str(found.headers)))
    for name in HEADERS:
        answer = stand.post(**{f"x_tally_{name.replace('-', '_')}": key})
        told.append((answer.status_code, answer.text + str(answer.headers)))
    answer = stand.post(body=chat(model=key))
    told.append((answer.status_code, answer.text + str(answer.headers)))
    return told


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


def test_a_planted_key_is_found_nowhere(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    log: io.StringIO,
) -> None:
    provider = "sk-proj-9a8b7c6d5e4f3g2h1i0jKLMNOPQRSTUV"
    with gateway(database_url, tmp_path, monkeypatch) as stand:
        operator = create_key(stand.runtime, org_id=None, scopes=["admin"], author="me").token
        stand.post(x_tally_request_id="good-call")
        told = attempts(stand, stand.token, operator) + attempts(stand, provider, operator)
        # What a provider calls its model, or the request, is no matter of the caller's.
        headers = {"x-request-id": stand.token}
        stand.upstream.reply = Reply(body=chat_answer(model=stand.token), headers=headers)
        assert stand.post(x_tally_request_id="odd").status_code == 200
        assert [status for status, _ in told if status < 400] == [207, 207]
        seal_once(stand.runtime, everything=True)
        token = stand.token
        said = [text for _, text in told]
        with psycopg.connect(database_url) as connection:
            tables = connection.execute(
                "select quote_ident(table_name) from information_schema.tables where table_schema = 'public'"
            ).fetchall()
            for (table,) in tables:
                said += [str(row) for row in connection.execute(f"select t::text from {table} as t".encode())]
        assert any("good-call" in text for text in said)
        assert [one["request_id"] for one in stand.usage()] == ["good-call", "good", "odd"]
    logged = capfd.readouterr()
    said += [logged.out, logged.err, log.getvalue()]
    said += [file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*") if file.is_file()]
    for secret in (token, provider, operator):
        assert not [text[:500] for text in said if secret in text]
    assert token[:11] in log.getvalue()  # what it is called is shown
