"""A delivery is one request, to the address that was judged, within a deadline, whatever the other side does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tallystick.app.webhook_http import Answer, Failure, post, resolve, tls_context
from tallystick.core.errors import BadInput
from tallystick.wire.webhook_address import AllowList, Target, parse_allow_list, parse_target
from webhook_receivers import Receiver, answer_with, certified, receiving

HERE = parse_allow_list("127.0.0.1")


def send(url: str, allow: AllowList = HERE, ca_file: Path | None = None, **more: Any) -> Answer:
    return post(parse_target(url, allow), b"{}", {"X-One": "1"}, allow=allow, context=tls_context(ca_file), **more)


@contextmanager
def raw_server(act: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does as it likes with each connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=guarded, args=(connection,), daemon=True).start()

    def guarded(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            act(connection)

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    listener.close()


def drip(connection: socket.socket, text: bytes, *, begin: bytes = b"") -> None:
    connection.recv(65536)
    connection.sendall(begin)
    for byte in text * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


@pytest.mark.parametrize(
    "begin",
    [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"HTTP/1.1 100 Continue\r\n"],
    ids=["status", "headers", "body", "continue"],
)
def test_an_answer_that_drips_ends_at_the_deadline(begin: bytes) -> None:
    with raw_server(lambda connection: drip(connection, b"x", begin=begin)) as url:
        began = time.monotonic()
        with pytest.raises(Failure, match="no whole answer within"):
            send(url, total_seconds=0.4)
        assert 0.3 < time.monotonic() - began < 3


def test_nothing_is_waited_for_longer_than_the_deadline_nor_read_beyond_what_is_kept() -> None:
    with (
        raw_server(lambda connection: time.sleep(5)) as silent,
        pytest.raises(Failure, match="no whole answer"),
    ):
        send(silent, total_seconds=0.3)
    sent: list[int] = []

    def flood(connection: socket.socket, line: bytes, begin: bytes) -> None:
        connection.recv(65536)
        connection.sendall(begin)
        count = 0
        try:
            for _ in range(2000):
                connection.sendall(line * 100)
                count += len(line) * 100
        finally:
            sent.append(count)

    with raw_server(lambda one: flood(one, b"x" * 100, b"HTTP/1.1 200 OK\r\n\r\n")) as endless:
        answer = send(endless)
    assert (answer.status, len(answer.body)) == (200, 1024)
    for line in (b"X-Many: yes\r\n", b"y" * 99):
        with (
            raw_server(lambda one, line=line: flood(one, line, b"HTTP/1.1 200 OK\r\n")) as headers,  # type: ignore[misc]
            pytest.raises(Failure, match="not HTTP as we know it"),
        ):
            send(headers)
    with (
        raw_server(lambda one: flood(one, b"HTTP/1.1 100 Continue\r\n\r\n", b"")) as continues,
        pytest.raises(Failure, match="not HTTP as we know it"),
    ):
        send(continues)


def test_what_is_no_answer_is_a_failure_that_says_why() -> None:
    with raw_server(lambda one: one.close()) as closing, pytest.raises(Failure):
        send(closing)
    with raw_server(lambda one: one.sendall(b"220 smtp ready\r\n")) as other, pytest.raises(Failure, match="not HTTP"):
        send(other)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Failure, match="no connection: connection refused"):
        send(f"http://127.0.0.1:{port}/")


def test_the_connection_is_made_to_the_address_that_was_judged_and_to_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that stands for another address the second time is asked once."""
    answers = [[ip_address("127.0.0.1")], [ip_address("169.254.169.254")]]
    asked: list[str] = []

    def rebinding(host: str, _port: int) -> list[Any]:
        asked.append(host)
        return answers.pop(0)

    def never(*given: Any, **more: Any) -> Any:
        raise AssertionError(given)

    allow = parse_allow_list("hooks.example.com")
    with receiving() as receiver:
        monkeypatch.setattr(socket, "getaddrinfo", never)
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        answer = send(f"http://hooks.example.com:{receiver.port}/x", allow, resolver=rebinding)
    assert answer.status == 200
    assert asked == ["hooks.example.com"]
    assert receiver.requests[0].headers["host"] == f"hooks.example.com:{receiver.port}"


def test_one_address_that_is_refused_among_those_of_a_name_is_enough(receiver: Receiver) -> None:
    target = Target("http", "hooks.example.com", receiver.port, "/")
    for_all = [ip_address("1.1.1.1"), ip_address("127.0.0.1")]
    with pytest.raises(BadInput) as caught:
        post(target, b"{}", {}, allow=AllowList(), context=tls_context(None), resolver=lambda *_: for_all)
    assert caught.value.code == "webhook_address_refused"
    assert not receiver.requests


def test_a_name_that_stands_for_this_machine_is_refused_by_what_it_stands_for() -> None:
    with pytest.raises(BadInput) as caught:
        post(Target("https", "localhost", 443, "/"), b"", {}, allow=AllowList(), context=tls_context(None))
    assert caught.value.code == "webhook_address_refused"
    with pytest.raises(Failure, match="no address"):
        resolve("nowhere.invalid", 443)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    return certified(tmp_path_factory.mktemp("tls"), "hooks.example.com")


def test_certificates_are_checked_against_the_name_and_known_authorities(authority: tuple[Any, Path]) -> None:
    context, ca_file = authority
    here = [ip_address("127.0.0.1")]
    allow = parse_allow_list("hooks.example.com,other.example.com")

    def to(host: str, ca: Path | None) -> Answer:
        return send(f"https://{host}:{server.port}/x", allow, ca, resolver=lambda *_: here)

    with receiving(context) as server:
        assert to("hooks.example.com", ca_file).body == b"thanks"
        with pytest.raises(Failure, match="its certificate is not trusted"):
            to("hooks.example.com", None)
        with pytest.raises(Failure, match="its certificate is not trusted: Hostname mismatch"):
            to("other.example.com", ca_file)
        assert len(server.requests) == 1
    with receiving() as plain, pytest.raises(Failure, match="TLS failed"):
        send(f"https://127.0.0.1:{plain.port}/")


def test_an_answer_before_the_body_was_read_counts_and_chunks_are_put_together(receiver: Receiver) -> None:
    receiver.answer = answer_with(413)
    assert send(receiver.url).status == 413

    def chunked(handler: Any, _request: Any) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(202)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    receiver.answer = chunked
    assert send(receiver.url)[:2] == (202, b"abcde")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


def test_what_says_that_the_answer_is_still_to_come_is_no_answer() -> None:
    def early(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with raw_server(early) as url:
        assert send(url)[:2] == (200, b"ok")

    def flood(connection: socket.socket) -> None:
        connection.recv(65536)
        while True:
            connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)

    began = time.monotonic()
    with raw_server(flood) as url, pytest.raises(Failure):
        send(url)
    assert time.monotonic() - began < 5, "it ends where too much was read"
