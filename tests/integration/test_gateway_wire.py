"""The gateway's wire on both sides: odd HTTP is served exactly, what is none is refused, and nothing is guessed."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_upstream import Reply, stream
from gateway_tools import WHOLE, Stand, chat, chat_answer, gateway

BODY = json.dumps(chat()).encode()
STREAM_BODY = json.dumps(chat(stream=True, stream_options={"include_usage": True})).encode()
LENGTH = f"content-length: {len(BODY)}\r\n"
TOOLS = "tools:\n  weather:\n    url: {url}/v2/forecast\n    methods: [GET]\n"
UPGRADE = "upgrade: {}\r\nconnection: Upgrade\r\n"


@pytest.fixture
def stand(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    with gateway(database_url, tmp_path, monkeypatch, tools=TOOLS) as served:
        yield served


def sent(stand: Stand, data: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """Send bytes; the status, headers and everything behind them until the connection ends."""
    with socket.create_connection(("127.0.0.1", stand.port), timeout=10) as caller:
        for start in range(0, len(data), 50_000):  # in pieces, so that nothing is left unread when it is refused
            caller.sendall(data[start : start + 50_000])
            time.sleep(0.02 if len(data) > start + 50_000 else 0)
        said = b""
        while part := caller.recv(65536):
            said += part
    head, _, body = said.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines[1:])
    return int(lines[0].split(b" ", 2)[1]), headers, body


def call(
    stand: Stand,
    target: str = "/openai/v1/chat/completions",
    *,
    method: str = "POST",
    version: str = "1.1",
    head: str = LENGTH,
    body: bytes = BODY,
) -> tuple[int, dict[bytes, bytes], bytes]:
    closes = "" if "connection:" in head else "connection: close\r\n"
    said = (
        f"{method} {target} HTTP/{version}\r\nhost: here\r\nauthorization: Bearer {stand.token}\r\n"
        f"content-type: application/json\r\nx-tally-action: tailor_document\r\n{closes}{head}\r\n"
    )
    return sent(stand, said.encode() + body)


def unchunked(body: bytes) -> bytes:
    whole, rest = b"", body
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        whole, rest = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return whole


# ── from callers ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_old_callers_get_no_chunks_and_the_connections_end_is_the_answers(stand: Stand) -> None:
    status, headers, body = call(stand, version="1.0")
    assert (status, body, headers[b"content-length"]) == (200, chat_answer(), b"%d" % len(chat_answer()))
    stand.upstream.reply = stream(WHOLE)
    status, headers, body = call(stand, version="1.0", head=f"content-length: {len(STREAM_BODY)}\r\n", body=STREAM_BODY)
    assert status == 200
    assert b"transfer-encoding" not in headers
    assert b"content-length" not in headers
    before, _, comment = body.partition(b": tally ")
    assert (before + comment.partition(b"\n\n")[2]).decode() == WHOLE
    stand.upstream.reply = Reply(body=b'{"data": []}')
    status, headers, body = call(stand, "/openai/v1/models", method="GET", version="1.0", head="", body=b"")
    assert (status, body) == (200, b'{"data": []}')
    assert b"transfer-encoding" not in headers


def test_chunks_with_extensions_and_trailers_are_one_body(stand: Stand) -> None:
    cut = len(BODY) // 2
    chunks = b"%x;a=b\r\n%b\r\n%x\r\n%b\r\n0\r\nx-tally-user: somebody-else\r\nx-more: 1\r\n\r\n"
    body = chunks % (cut, BODY[:cut], len(BODY) - cut, BODY[cut:])
    status, _, answer = call(stand, head="transfer-encoding: chunked\r\ntrailer: x-more\r\n", body=body)
    assert (status, answer) == (200, chat_answer())
    asked = stand.upstream.requests[-1]
    assert asked.body == BODY
    assert asked.header("content-length") == str(len(BODY))
    assert asked.header("transfer-encoding") is None
    assert asked.header("trailer") is None
    assert asked.header("x-more") is None


TWO_LENGTHS = [
    LENGTH + LENGTH,
    LENGTH + "content-length: 5\r\n",
    f"content-length: {len(BODY)}, {len(BODY)}\r\n",
    f"content-length: +{len(BODY)}\r\n",
    "content-length: -1\r\n",
    LENGTH + "transfer-encoding: chunked\r\n",
    "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
    "transfer-encoding: xchunked\r\n",
    "transfer-encoding: chunked, identity\r\n",
    "transfer-encoding : chunked\r\n",
    LENGTH + "x-folded: a\r\n b\r\n",
    LENGTH + "x-bare: a\nx-tally-user: b\r\n",
]


def test_a_length_that_two_readers_could_take_differently_is_refused_and_closes(stand: Stand) -> None:
    """Or what one takes for a body is another's next request."""
    for head in TWO_LENGTHS:
        asked = len(stand.upstream.requests)
        status, headers, body = call(stand, head=head)
        assert (status, headers[b"connection"]) == (400, b"close")
        assert json.loads(body)["code"] == "malformed_http"
        assert len(stand.upstream.requests) == asked


def test_a_caller_who_waits_to_be_told_to_go_on_is_told(stand: Stand) -> None:
    status, headers, body = call(stand, head=LENGTH + "expect: 100-continue\r\n")
    assert (status, headers) == (100, {})
    assert body.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body.endswith(b"\r\n\r\n" + chat_answer())
    assert stand.upstream.requests[-1].header("expect") is None


def test_a_target_with_a_host_goes_where_the_configuration_says(stand: Stand) -> None:
    status, _, body = call(stand, "http://169.254.169.254/openai/v1/chat/completions?a=b")
    assert (status, body) == (200, chat_answer())
    asked = stand.upstream.requests[-1]
    assert asked.target == "/v1/chat/completions?a=b"
    assert asked.header("host") == f"127.0.0.1:{stand.upstream.port}"


METHODS = ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"]


def test_methods_that_a_route_has_not_are_refused_in_the_providers_shape(stand: Stand) -> None:
    for method in METHODS:
        asked = len(stand.upstream.requests)
        status, headers, body = call(stand, method=method, head="", body=b"")
        assert status == 404
        assert headers[b"x-should-retry"] == b"false"
        assert (json.loads(body)["error"]["code"] if method != "HEAD" else body) == ("unknown_path" if body else b"")
        assert len(stand.upstream.requests) == asked


UPGRADES = [
    ("/openai/v1/realtime?model=gpt-4o", "GET", UPGRADE.format("websocket"), b""),
    ("/v1/nothing", "GET", UPGRADE.format("WebSocket"), b""),
    ("/openai/v1/chat/completions", "POST", UPGRADE.format("h2c") + LENGTH, BODY),
    ("/openai/v1/chat/completions", "POST", UPGRADE.format("h2c") + "transfer-encoding: chunked\r\n", b""),
]


def test_what_wants_another_protocol_is_refused_and_nothing_behind_it_is_read(stand: Stand) -> None:
    for path, method, head, body in UPGRADES:
        asked = len(stand.upstream.requests)
        smuggled = (
            b"GET /openai/v1/models HTTP/1.1\r\nhost: here\r\nauthorization: Bearer %b\r\n\r\n" % stand.token.encode()
        )
        status, headers, answer = call(stand, path, method=method, head=head, body=body + smuggled)
        assert (status, headers[b"connection"]) == (400, b"close")
        assert json.loads(answer)["code"] == "upgrade_not_supported"
        assert len(stand.upstream.requests) == asked


def test_an_offer_of_another_protocol_without_a_body_is_passed_over_and_closes(stand: Stand) -> None:
    """What was sent behind it may be of that protocol, so that none of it is read."""
    stand.upstream.reply = Reply(body=b'{"data": []}')
    asked = len(stand.upstream.requests)
    behind = f"GET /openai/v1/models HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {stand.token}\r\n\r\n".encode()
    status, headers, body = call(stand, "/openai/v1/models", method="GET", head=UPGRADE.format("h2c"), body=behind)
    assert (status, unchunked(body), headers[b"connection"]) == (200, b'{"data": []}', b"close")
    assert len(stand.upstream.requests) == asked + 1
    assert stand.upstream.requests[-1].header("upgrade") is None


NO_TOOLS = [
    *("/tool/../openai/v1/chat/completions", "/tool/%2e%2e/weather", "/tool/weather/", "/tool/weather/../../x"),
    *("/tool/weather/x", "/tool//weather", "/tool/weather%2f..%2fx", "/tool/", "/tool/weather%00", "/tool/Weather"),
    *("/tool/weather;x", "/tool/./weather", "/tool/http://169.254.169.254/"),
]


def test_a_tool_is_called_by_its_name_alone(stand: Stand) -> None:
    for path in NO_TOOLS:
        asked = len(stand.upstream.requests)
        status, _, body = call(stand, path, method="GET", head="", body=b"")
        assert (status, json.loads(body)["code"]) == (404, "unknown_tool")
        assert len(stand.upstream.requests) == asked


NO_PATHS = [
    *("/openai/v1/../../x", "/openai/v1/%2e%2e/models", "/openai//v1/chat/completions", "/openai/"),
    *("/openai/v1/chat%2fcompletions", "/openai/v1/chat/completions%00", "/openai/v1/chat/completions;a=b"),
]


def test_a_path_that_two_readers_could_take_differently_goes_nowhere(stand: Stand) -> None:
    for path in NO_PATHS:
        asked = len(stand.upstream.requests)
        status, _, body = call(stand, path)
        assert (status, json.loads(body)["error"]["code"]) == (404, "unknown_path")
        assert len(stand.upstream.requests) == asked


def test_what_stands_beside_a_body_is_bounded_as_heads_are(stand: Stand) -> None:
    asked = len(stand.upstream.requests)
    for body in (b"1;" + b"x" * 149_000, b"1\r\n{\r\n0\r\nx-trailer: " + b"x" * 149_000):
        status, headers, answer = call(stand, head="transfer-encoding: chunked\r\n", body=body)
        assert (status, headers[b"connection"], json.loads(answer)["code"]) == (431, b"close", "head_too_large")
    assert len(stand.upstream.requests) == asked


# ── from providers ──────────────────────────────────────────────────────────────────────────────────────────────────

ANSWER = chat_answer()
FRAMED = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"


ODD = [
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n" + FRAMED,
    b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + ANSWER,
    CHUNKED + b'\r\n%x;a=b;c="d"\r\n%b\r\n0\r\nx-trailer: 1\r\n\r\n' % (len(ANSWER), ANSWER),
    b"HTTP/1.1 200 OK\r\n" + FRAMED + b"HTTP/1.1 500 Stray\r\ncontent-length: 5\r\n\r\nstray",
    b"HTTP/1.1 200 OK\r\n" + FRAMED + b"stray",
]


def test_odd_answers_are_read_exactly(stand: Stand) -> None:
    for raw in ODD:
        stand.upstream.reply = Reply(raw=raw)
        status, headers, body = call(stand)
        assert (status, body) == (200, ANSWER)
        assert headers[b"x-tally-cost-status"] == b"final"
        assert b"x-trailer" not in headers
        assert b"link" not in headers
        stand.upstream.reply = Reply(body=b'{"error": {"message": "no"}}', status=400)
        assert call(stand)[0] == 400  # the next call gets its own answer, whatever was left of this one


NO_ANSWERS = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n" + FRAMED,
    b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" % len(ANSWER),
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx-large: " + b"x" * 300_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %b\r\n" % (i, b"y" * 100) for i in range(3000)) + b"\r\n",
    CHUNKED + b"\r\n1;" + b"x" * 300_000,
    CHUNKED + b"\r\n0\r\nx-trailer: " + b"x" * 300_000,
    b"HTTP/1.1 100 Continue\r\n\r\n" * 12_000,
    b"SSH-2.0-OpenSSH_9.6\r\n",
]


def test_answers_that_are_no_http_or_do_not_end_are_failures_that_end_their_hold(stand: Stand) -> None:
    for raw in NO_ANSWERS:
        settled = len(stand.settlements())
        stand.upstream.reply = Reply(raw=raw)
        status, _, body = call(stand)
        assert (status, json.loads(body)["error"]["code"]) == (502, "upstream_garbage")
        assert [one["request"]["outcome"] for one in stand.settlements()[settled:]] == ["failure"]
        assert stand.open_holds() == 0


def test_hundreds_of_headers_go_on_in_their_order(stand: Stand) -> None:
    lines = b"".join(b"x-part: %d\r\n" % number for number in range(300))
    stand.upstream.reply = Reply(raw=b"HTTP/1.1 200 OK\r\n" + lines + FRAMED)
    said = BODY
    with socket.create_connection(("127.0.0.1", stand.port), timeout=10) as caller:
        head = f"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {stand.token}\r\n"
        caller.sendall(
            (head + "content-type: application/json\r\nconnection: close\r\n" + LENGTH).encode() + b"\r\n" + said
        )
        answer = b""
        while part := caller.recv(65536):
            answer += part
    assert answer.count(b"\r\nx-part: ") == 300
    assert lines in answer
