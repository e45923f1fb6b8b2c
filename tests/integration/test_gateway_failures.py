"""Whatever a provider does wrong has an outcome, ends the hold, and gives no secret away."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from account_operations import wrongs
from fake_upstream import Reply, stream
from gateway_tools import (
    ACTION,
    CHAT,
    NOW,
    PROVIDER_KEY,
    WHOLE,
    Stand,
    chat,
    chat_answer,
    gateway,
    recorded,
    wait_until,
)
from tallystick.api.app import create_app
from tallystick.api.logs import LineBuffer
from tallystick.app.gateway_calls import ATTEMPTS_MAX
from tallystick.app.release import release
from tallystick.usage.event import UsageEvent

JUNK = b"<html>\xff\x00 not an answer</html>"


@pytest.fixture
def stand(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    with gateway(database_url, tmp_path, monkeypatch) as opened:
        yield opened


@pytest.mark.parametrize(
    ("reply", "status", "outcome", "usage_status"),
    [
        (Reply(body=b'{"error":{"message":"no"}}'), 200, "failure", "final"),
        (Reply(body=JUNK, content_type="text/html"), 200, "failure", "estimated"),
        (Reply(body=b""), 200, "failure", "estimated"),
        (Reply(status=500, body=JUNK), 500, "failure", "final"),
        (Reply(status=204, body=b"", framing="connection"), 204, "failure", "estimated"),
        (Reply(status=429, body=b"{}", headers={"retry-after": "7"}), 429, "failure", "final"),
        (Reply(status=302, body=b"", headers={"location": "http://169.254.169.254/"}), 302, "failure", "final"),
        (Reply(body=chat_answer(usage=None)), 200, "success", "estimated"),
        (Reply(body=chat_answer("", 100, 0)), 200, "empty", "final"),
        (Reply(body=chat_answer(), headers={"content-encoding": "gzip"}), 200, "failure", "estimated"),
        (Reply(body=chat_answer(), framing="connection"), 200, "success", "final"),
        (Reply(body=chat_answer(), framing="chunks", cuts=range(1, 300, 7)), 200, "success", "final"),
        (Reply(body=chat_answer(), then="close", sent_bytes=40), 502, "failure", "estimated"),
        (Reply(body=chat_answer(), then="reset", sent_bytes=40), 502, "failure", "estimated"),
        (Reply(body=chat_answer(), framing="chunks", then="close", sent_bytes=40), 502, "failure", "estimated"),
        (Reply(raw=b"\x16\x03\x01 not HTTP\r\n\r\n"), 502, "failure", "estimated"),
        (Reply(raw=b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n"), 502, "failure", "estimated"),
        (Reply(raw=b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 60_000), 502, "failure", "estimated"),
        (Reply(raw=b""), 502, "failure", "estimated"),
    ],
)  # fmt: skip
def test_every_answer_has_an_outcome_and_ends_the_hold(
    stand: Stand, reply: Reply, status: int, outcome: str, usage_status: str
) -> None:
    stand.upstream.reply = reply
    with stand.client() as client:
        request = client.build_request("POST", CHAT, json=chat(), headers={**ACTION, "accept-encoding": "identity"})
        sent = client.send(request, stream=True, follow_redirects=False)
        content = b"".join(sent.iter_raw())
    assert sent.status_code == status, content
    if reply.raw is None and reply.then == "end":
        assert content == reply.body
        for name, value in reply.headers.items():
            assert sent.headers[name] == value
    else:
        assert json.loads(content)["error"]["code"] in ("upstream_broke_off", "upstream_garbage")
    (settlement,) = stand.settlements()
    assert settlement["request"]["outcome"] == outcome
    (usage,) = stand.usage()
    assert (usage["outcome"], usage["usage_status"] or "final") == (outcome, usage_status)
    assert sent.headers["x-tally-credits"] == ("5" if outcome == "success" else "0")
    assert stand.open_holds() == 0
    assert wrongs(stand.runtime) == []


def test_a_provider_that_is_not_there_is_told_and_the_hold_given_back(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(database_url, tmp_path, monkeypatch) as stand:
        stand.upstream.__exit__()
        answer = stand.post(x_tally_request_id="gone")
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unreachable")
        assert answer.headers["x-should-retry"] == "true"
        assert [one["kind"] for one in stand.entries()] == ["hold", "release"]
        assert stand.post(x_tally_request_id="gone").status_code == 502
        assert [one["request_id"] for one in stand.entries() if one["kind"] == "hold"] == ["gone", "gone~2"]


def test_recorded_errors_of_providers_pass_unchanged(stand: Stand) -> None:
    for error in recorded("provider_errors.jsonl"):
        stand.upstream.reply = Reply(status=error["status"], body=error["body"].encode())
        answer = stand.post("/other/v1/chat/completions")
        assert (answer.status_code, answer.content) == (error["status"], error["body"].encode())
    assert {one["request"]["outcome"] for one in stand.settlements()} == {"failure"}
    assert {one["cost_pico"] for one in stand.usage()} == {0}


def test_an_id_has_only_so_many_attempts(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.gateway.charges.ATTEMPTS_MAX", 3)
    assert ATTEMPTS_MAX > 3
    stand.upstream.reply = Reply(status=500)
    assert [stand.post(x_tally_request_id="often").status_code for _ in range(4)] == [500, 500, 500, 409]


def test_an_id_that_other_usage_has_taken_keeps_no_usage_back(stand: Stand) -> None:
    members = {"user_id": "u", "session_id": "s", "feature": "f", "environment": "production", "provider": "openai"}
    taken = UsageEvent(org_id="acme", request_id="taken", time=NOW, model="gpt-4o", meters={"tokens_in": 1}, **members)
    stand.runtime.append([taken])
    answer = stand.post(x_tally_request_id="taken")
    assert (answer.status_code, answer.headers["x-tally-credits"]) == (200, "5")
    hold = answer.headers["x-tally-hold"]
    assert [one["request_id"] for one in stand.usage()] == ["taken", f"taken~{hold}"]


def test_usage_of_a_hold_that_somebody_else_ended_is_recorded_and_charged_nothing(stand: Stand) -> None:
    stand.upstream.reply = Reply(body=chat_answer(), first_seconds=0.4)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(stand.post()))
    thread.start()
    wait_until(lambda: len(stand.upstream.requests) == 1)
    (hold,) = [one["seq"] for one in stand.entries()]
    release(stand.runtime, {"org_id": "acme", "hold_id": f"h{hold}", "reason": "by hand"})
    thread.join()
    assert (answers[0].status_code, answers[0].headers["x-tally-credits"]) == (200, "0")
    assert answers[0].headers["x-tally-cost-usd"] == "0.00045"
    assert [one["meters"] for one in stand.usage()] == [{"tokens_in": 100, "tokens_out": 20}]
    assert not stand.settlements()


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_call_that_is_cancelled_by_the_servers_end_is_settled_all_the_same(stand: Stand, is_stream: bool) -> None:
    """As the server does with what is still under way when its time to stop is over."""
    stand.upstream.reply = stream(WHOLE, cuts=[400], piece_seconds=30) if is_stream else Reply(first_seconds=30)
    body = json.dumps(chat(stream=is_stream)).encode()
    headers = [(b"authorization", f"Bearer {stand.token}".encode()), (b"x-tally-action", b"tailor_document")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "raw_path": CHAT.encode(), "query_string": b"",
             "headers": headers, "http_version": "1.1"}  # fmt: skip

    async def serve_and_stop() -> None:
        app: Any = create_app(stand.runtime)
        events: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        started = asyncio.Event()

        async def lifespan_send(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                started.set()

        state: dict[str, Any] = {}
        life = asyncio.create_task(app({"type": "lifespan", "state": state}, events.get, lifespan_send))
        await events.put({"type": "lifespan.startup"})
        await started.wait()
        never = asyncio.Event()
        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            for message in received:
                return message
            await never.wait()
            return None

        async def send(_: Any) -> None:
            pass

        call = asyncio.create_task(app(scope, receive, send))
        while not stand.upstream.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await events.put({"type": "lifespan.shutdown"})
        await life

    asyncio.run(serve_and_stop())
    assert stand.open_holds() == 0
    (settlement,) = stand.settlements()
    assert settlement["request"]["outcome"] == "failure"
    if is_stream:
        assert stand.usage()[0]["meters"]["tokens_out"] >= 1


def test_planted_secrets_are_found_nowhere(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    own = "sk-own-planted-2718281828459045"
    said: list[str] = []
    log = io.StringIO()
    monkeypatch.setattr("tallystick.api.app.LineBuffer", partial(LineBuffer, stream=log))
    with gateway(database_url, tmp_path, monkeypatch) as stand:
        for reply in (Reply(body=chat_answer()), Reply(status=401, body=b"{}"), Reply(raw=b""), stream(WHOLE)):
            stand.upstream.reply = reply
            said.append(stand.post().text)
            said.append(stand.post(body=chat(stream=True), x_tally_key=stand.token, authorization=f"Bearer {own}").text)
            said.append(stand.post(f"{CHAT}?key={own}", x_tally_key=stand.token, authorization="").text)
            said.append(stand.post(authorization=f"Bearer {own}").text)
            said.append(stand.post("/openai/v1/nothing", x_tally_key=stand.token, authorization=f"Bearer {own}").text)
        token = stand.token
        assert own in str(stand.upstream.requests)  # it did go through
        with psycopg.connect(database_url) as connection:
            tables = connection.execute(
                "select quote_ident(table_name) from information_schema.tables where table_schema = 'public'"
            ).fetchall()
            for (table,) in tables:
                said += [str(row) for row in connection.execute(f"select t::text from {table} as t".encode())]
    logged = capfd.readouterr()
    said += [logged.out, logged.err, log.getvalue()]
    said += [file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*") if file.is_file()]
    for secret in (PROVIDER_KEY, own, token):
        assert not [text for text in said if secret in text]
    assert any("/openai/v1/chat/completions" in text for text in said)


def test_a_server_whose_gateway_file_is_wrong_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("providers:\n  mine: {base_url: ftp://x, key: sk-planted}\n")
    monkeypatch.setenv("TALLY_GATEWAY_FILE", str(file))
    monkeypatch.delenv("TALLY_DATA_DIR", raising=False)
    command = [sys.executable, "-c", "from tallystick.cli.main import main; main()", "serve", "--port", "0"]
    done = subprocess.run([*command, "--data-dir", str(tmp_path / "d")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "[unknown_key]" in done.stderr
    assert f"{file}:2" in done.stderr
    assert "sk-planted" not in done.stderr
    assert not (tmp_path / "d").exists()
