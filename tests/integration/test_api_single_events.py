"""Single events take a short way through the server: its answers are the long way's, and every limit holds there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import psycopg
import pytest

from http_callers import HEAD, Caller, callers, serving
from journal_helpers import query, raw_event
from tallystick.api import http_protocol
from tallystick.api.short_ways import ShortWays
from tallystick.api.single_events import SingleEvents
from tallystick.app.loop_inbox import LoopInbox
from tallystick.usage.checks import sound_event

NAMED = "Request-Id: job-7\r\n"


@pytest.fixture
def port(runtime) -> Iterator[int]:
    with serving(runtime) as port:
        yield port


@pytest.fixture
def call(port: int) -> Iterator[Callable[[], Caller]]:
    with callers(port) as connect:
        yield connect


def encoded(request_id: str = "r1", **more: object) -> bytes:
    return json.dumps(raw_event(request_id, **more)).encode()


# In the order in which they are sent, with the status of their answers.
BODIES = [
    (encoded("a"), 201),
    (encoded("a"), 200),
    (encoded("a", latency_ms=7), 409),
    (encoded("b", model="gpt-99-imaginary"), 201),
    (encoded("c", attributes={"k": 'é"\\\n'}, time="2026-10-15T12:00:00.123456789+02:00"), 201),
    (encoded("d", provider_cost_pico="12"), 201),
    (encoded("e", meters={"tokens_in": -1}), 422),
    (encoded("e", meters={"tokens_inn": 1}, nonsense=1), 422),
    (encoded("f")[:-1] + b', "org_id": "other"}', 400),
    (b"[" + encoded("g") + b"]", 200),
    (b"[]", 200),
    (b" \n" + encoded("h"), 201),
    (b"\xef\xbb\xbf" + encoded("i"), 201),
    (b'{"specversion": "1.0"}', 422),
    (b"{", 400),
    (b"\xff", 400),
    (b"7", 422),
    (encoded("j", model="gpt-5", meters={"tokens_out": 10**12}), 422),
]
# Heads that have been seen by now: with bodies that are sound and, of the same length, with some that are not.
AGAIN = [
    (encoded("a"), 200),
    (encoded("k"), 201),
    (encoded("l").replace(b'"meters"', b'"metres"'), 422),
    (encoded("l").replace(b"}", b"]"), 400),
    (encoded("l"), 201),
]
DIFFERS = re.compile(rb'"(fingerprint|stored_fingerprint|leaf)":"[0-9a-f]{64}"|"seq":\d+|"request_id":"req_[0-9a-f]+"')


@pytest.mark.parametrize("named", [NAMED, ""], ids=["named", "unnamed"])
def test_every_answer_is_that_of_the_long_way(call, named: str):
    short, long = call(), call()
    for body, status in [*BODIES, *AGAIN]:
        short.send(body.replace(b'"acme"', b'"org-s"'), headers=named)
        # An address with a query, even an empty one of a name, is not taken the short way.
        long.send(body.replace(b'"acme"', b'"org-l"'), headers=named, query="?x")
        (one, headers, answer), (other, other_headers, other_answer) = short.answer(), long.answer()
        assert (one, other) == (status, status), answer
        assert DIFFERS.sub(b"", answer.replace(b"org-s", b"org-l")) == DIFFERS.sub(b"", other_answer)
        headers.pop("date"), other_headers.pop("date")
        ids = headers.pop("request-id"), other_headers.pop("request-id")
        assert headers == other_headers
        assert ids == ("job-7", "job-7") if named else len({*ids}) == 2


def test_sound_single_events_do_take_the_short_way(runtime):
    # Were they all to go the long way, the test above would compare it with itself.
    scope = {"path": "/v1/events", "method": "POST", "query_string": b""}
    headers = [(b"content-type", b"application/json"), (b"content-length", b"300")]

    def goes(body_bytes_max: int = 16384, **more: object) -> bool:
        way = SingleEvents(runtime, LoopInbox(None))  # type: ignore[arg-type]
        ways = ShortWays([way], _NoLog(), body_bytes_max=body_bytes_max)  # type: ignore[arg-type]
        return ways.way_of({**scope, "headers": headers, **more}) is way

    assert goes()
    assert not goes(299)
    assert not goes(headers=[*headers, (b"content-encoding", b"gzip")])
    assert not goes(query_string=b"x")
    assert not goes(path="/v1/orgs")


def test_a_head_that_was_seen_before_is_not_taken_for_another(call):
    caller = call()
    known = encoded("n-1")
    for body in (known, encoded("n-2")):
        caller.send(body)
        assert caller.answer()[0] == 201
    # The same head again, and then: only a part of the body, more than the body, and what is no head at all.
    caller.send(encoded("n-3")[:-7])  # the length fits what is sent, and the JSON has no end
    assert caller.answer()[0] == 400
    head = HEAD.format(path="/v1/events", query="") + f"Content-Length: {len(known)}\r\n\r\n"
    whole = head.encode() + encoded("n-4")
    caller.socket.sendall(whole[:-1])
    time.sleep(0.1)
    caller.socket.sendall(whole[-1:] + head.encode() + encoded("n-5") + head.encode())
    assert [caller.answer()[0] for _ in range(2)] == [201, 201]
    caller.socket.sendall(encoded("n-6"))
    assert caller.answer()[0] == 201
    caller.socket.sendall(b"\r\n" * 20 + head.encode() + encoded("n-7"))
    assert caller.answer()[0] == 201
    caller.socket.sendall(b"\r\n\r\n" + encoded("n-8"))
    assert caller.answer()[0] == 400


def test_requests_sent_without_waiting_are_answered_in_their_order(call):
    caller = call()
    look = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    for number in range(5):
        caller.send(encoded(f"p{number}"))
        caller.socket.sendall(look)
        caller.send(encoded(f"p{number}"), query="?x")
        caller.send(encoded(f"p{number}", latency_ms=1))
    for _ in range(5):
        assert [caller.answer()[0] for _ in range(4)] == [201, 200, 200, 409]


def test_a_request_that_arrives_byte_by_byte_is_one_request(call):
    caller = call()
    body = encoded("slow")
    for byte in (
        HEAD.format(path="/v1/events", query="").encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    ):
        caller.socket.sendall(bytes([byte]))
    assert caller.answer()[0] == 201


def test_who_says_close_is_answered_and_the_connection_is_closed(call):
    caller = call()
    caller.send(encoded("z"), headers="Connection: close\r\n")
    status, headers, _ = caller.answer()
    assert (status, headers["connection"]) == (201, "close")
    assert caller.is_closed()


def test_an_event_sent_over_many_connections_at_once_is_stored_once(call, runtime):
    def send(number: int) -> list[int]:
        caller = call()
        statuses = []
        for turn in range(10):
            caller.send(encoded(f"r{(number + turn) % 20}"))
            statuses.append(caller.answer()[0])
        return statuses

    with ThreadPoolExecutor(16) as pool:
        statuses = [status for answered in pool.map(send, range(16)) for status in answered]
    assert (statuses.count(201), statuses.count(200)) == (20, 140)
    assert query(runtime, "select array_agg(seq order by seq) from ledger_entries") == [(list(range(1, 21)),)]


def test_a_caller_who_leaves_before_the_answer_has_their_event_stored(call, runtime):
    caller = call()
    caller.send(encoded("left"))
    caller.socket.close()
    other = call()
    deadline = time.monotonic() + 10
    while not query(runtime, "select 1 from ledger_entries where request_id = 'left'"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    other.send(encoded("left"))
    assert other.answer()[0] == 200


@pytest.fixture
def short_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is opened after this has a queue that a few batches fill."""
    monkeypatch.setenv("TALLY_QUEUE_EVENTS_MAX", "3000")


@pytest.mark.parametrize("way", ["", "?x"], ids=["short", "long"])
@pytest.mark.usefixtures("short_queue")
def test_a_full_queue_is_429_with_the_seconds_to_wait_and_takes_nothing(call, runtime, way: str):
    assert runtime.settings.queue_events_max == 3000
    runtime.append([])  # nothing; and yet the writer is there
    first = call()
    first.send(encoded("first"))
    assert first.answer()[0] == 201
    with runtime.database.writer() as held:
        held.execute("select from org_heads for update")  # so that what is being written now waits
        batch = b"[" + b",".join(encoded(f"w{number}") for number in range(1000)) + b"]"
        waiting = []
        for _ in range(200):
            waiting.append(call())
            waiting[-1].send(batch)
            if runtime.writer.state().queue_events + 1000 > runtime.settings.queue_events_max:
                break
            time.sleep(0.02)
        deadline = time.monotonic() + 20
        while True:
            caller = call()
            caller.send(b"[" + encoded("busy") + b"]" if way else encoded("busy"), query=way)
            caller.socket.settimeout(0.5)
            try:
                status, headers, body = caller.answer()
                break
            except TimeoutError:  # it has found room
                assert time.monotonic() < deadline
        assert (status, json.loads(body)["code"]) == (429, "journal_busy")
        assert headers["content-type"] == "application/problem+json"
        assert 1 <= int(headers["retry-after"]) <= 60


def test_a_connection_that_is_closed_with_answers_outstanding_harms_no_other(call, runtime) -> None:
    first, closed, others = call(), call(), [call() for _ in range(5)]
    runtime.append([sound_event(raw_event("first"), now=runtime.clock(), known_meters=runtime.known_meters())])
    clock, pauses = runtime.clock, [0.5]

    def clock_that_stops_once() -> datetime:
        time.sleep(pauses.pop() if pauses else 0)
        return clock()

    with psycopg.connect(runtime.database.url) as holder:
        holder.execute("select from org_heads for update")
        runtime.clock = clock_that_stops_once
        first.send(encoded("r"))
        time.sleep(0.1)  # the server is busy with that one; the others go into the journal together
        for number, caller in enumerate([closed, *others]):
            caller.send(encoded(f"r{number}"))
        time.sleep(0.6)
        more = (
            HEAD.format(path="/v1/events", query="") + f"Content-Length: {len(encoded())}\r\n\r\n" + encoded().decode()
        )
        closed.socket.sendall(2 * more.encode() + b"\0no HTTP\r\n\r\n")
        assert closed.is_closed()
    assert [caller.answer()[0] for caller in [first, *others]] == [201] * 6


def test_a_head_without_end_is_refused(call):
    caller = call()
    caller.socket.sendall(b"POST /v1/events HTTP/1.1\r\nX-Filler: " + b"x" * http_protocol.HEAD_BYTES_MAX)
    status, _, body = caller.answer()
    assert (status, json.loads(body)["code"]) == (431, "head_too_large")
    assert caller.is_closed()


def test_a_head_without_end_that_began_with_the_request_before_is_refused_too(call) -> None:
    caller = call()
    body = encoded()
    whole = HEAD.format(path="/v1/events", query="") + f"Content-Length: {len(body)}\r\n\r\n" + body.decode()
    caller.socket.sendall((whole + "POST /v1/events HTTP/1.1\r\n").encode())
    assert caller.answer()[0] == 201
    caller.socket.sendall(b"X-Filler: " + b"x" * http_protocol.HEAD_BYTES_MAX)
    status, _, refusal = caller.answer()
    assert (status, json.loads(refusal)["code"]) == (431, "head_too_large")
    assert caller.is_closed()


def test_a_head_that_began_with_the_request_before_may_not_take_its_time_either(call, monkeypatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS_MAX", 0.5)
    caller = call()
    body = encoded()
    whole = HEAD.format(path="/v1/events", query="") + f"Content-Length: {len(body)}\r\n\r\n" + body.decode()
    caller.socket.sendall((whole + "POST /v1/events HTTP/1.1\r\n").encode())
    assert caller.answer()[0] == 201
    caller.socket.sendall(b"X-Slow: ")
    assert caller.answer()[0] == 408
    assert caller.is_closed()


def test_a_large_body_does_not_count_towards_the_head_that_follows_it_at_once(call) -> None:
    caller = call()
    body = b"[" + b",".join(encoded(f"r{number}") for number in range(600)) + b"]"
    head, second = HEAD.format(path="/v1/events", query="") + f"Content-Length: {len(body)}\r\n\r\n", encoded("s")
    rest = f"Content-Length: {len(second)}\r\n\r\n".encode() + second
    caller.socket.sendall(head.encode() + body + HEAD.format(path="/v1/events", query="").encode())
    assert caller.answer()[0] == 200
    caller.socket.sendall(rest)
    assert caller.answer()[0] == 201


@pytest.mark.parametrize("known", [False, True])
def test_who_waits_to_be_told_to_continue_is_told(call, known: bool) -> None:
    caller = call()
    if known:
        caller.send(encoded(), headers="Expect: 100-continue\r\n")
        assert caller.held + caller.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert caller.answer()[0] == 201
    body = encoded()
    head = HEAD.format(path="/v1/events", query="") + f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    caller.socket.sendall(head.encode())
    assert caller.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    caller.socket.sendall(body)
    assert caller.answer()[0] == (200 if known else 201)


def test_who_takes_too_long_is_refused_and_who_says_nothing_is_left(call, monkeypatch):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS_MAX", 0.5)
    monkeypatch.setattr(http_protocol, "BODY_SECONDS_MAX", 0.5)
    monkeypatch.setattr(http_protocol, "IDLE_SECONDS_MAX", 0.5)
    silent, slow_head, slow_body, idle = call(), call(), call(), call()
    idle.send(encoded("idle"))
    assert idle.answer()[0] == 201
    slow_head.socket.sendall(b"POST /v1/events HTTP/1.1\r\n")
    slow_body.socket.sendall(HEAD.format(path="/v1/events", query="").encode() + b"Content-Length: 300\r\n\r\n{")
    for caller in (slow_head, slow_body):
        status, headers, body = caller.answer()
        assert (status, json.loads(body)["code"]) == (408, "request_too_slow")
        assert json.loads(body)["request_id"] == headers["request-id"]
        assert caller.is_closed()
    assert silent.is_closed()
    assert idle.is_closed()
    late = call()
    late.send(encoded("late"))
    assert late.answer()[0] == 201, "the others are served as ever"


def test_a_body_that_keeps_coming_may_take_its_time(call, monkeypatch):
    monkeypatch.setattr(http_protocol, "BODY_SECONDS_MAX", 0.2)
    body = encoded("steady") + b" " * 20_000
    caller = call()
    caller.socket.sendall(
        HEAD.format(path="/v1/events", query="").encode() + f"Content-Length: {len(body)}\r\n\r\n".encode()
    )
    for at in range(0, len(body), 1000):
        caller.socket.sendall(body[at : at + 1000])
        time.sleep(0.1)  # 10,000 bytes a second
    assert caller.answer()[0] == 201


def test_who_does_not_read_the_answers_is_left(call, monkeypatch):
    monkeypatch.setattr(http_protocol, "UNREAD_SECONDS_MAX", 0.5)
    caller = call()
    asked = b"".join([HEAD.format(path="/v1/events", query="").encode() + b"Content-Length: 2\r\n\r\n{}"] * 100)
    with pytest.raises(ConnectionError):
        caller.socket.sendall(asked * 1000)


def test_who_sends_on_and_on_without_waiting_is_held_up_not_kept_in_memory(call):
    caller = call()
    caller.socket.settimeout(3)
    sent = 0
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100
    with contextlib.suppress(TimeoutError):
        while sent < 200_000_000:
            sent += caller.socket.send(asked)
    assert sent < 50_000_000  # what the kernel holds of both directions, and no more


class _Runtime:
    """Stands where the runtime stands, and fails when one of the events is the guilty one."""

    def __init__(self, runtime) -> None:
        self._runtime, self.settings = runtime, runtime.settings
        self.clock, self.known_meters = runtime.clock, runtime.known_meters

    def submit(self, events):
        if any(event.request_id == "guilty" for event in events):
            raise RuntimeError("the secret is 42")
        return self._runtime.submit(events)


def test_one_event_that_makes_the_writer_fail_fails_alone(runtime):
    async def send_all() -> dict[str, tuple[int, bytes]]:
        answers: dict[str, tuple[int, bytes]] = {}
        single = SingleEvents(_Runtime(runtime), LoopInbox(asyncio.get_running_loop()))  # type: ignore[arg-type]
        names = ["a", "guilty", "b"]
        for name in names:
            taken = single.take(
                encoded(name), "id", lambda answer, name=name: answers.update({name: (answer.status, answer.body)})
            )
            assert taken
        while len(answers) < len(names):
            await asyncio.sleep(0.01)
        return answers

    answers = asyncio.run(asyncio.wait_for(send_all(), 20))
    assert {name: status for name, (status, _) in answers.items()} == {"a": 201, "guilty": 500, "b": 201}
    assert b"42" not in answers["guilty"][1]


class _NoLog:
    def add(self, line: bytes) -> None:
        pass
