"""Every answer has a request id, every refusal is a problem document, and bodies are bounded."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from tallystick.api.bodies import bounded_body
from tallystick.api.problems import answer_tally_error, problem, status_of
from tallystick.api.request_log import REQUEST_ID, RequestLog
from tallystick.app.body_budget import BodyBudget
from tallystick.core.errors import BadInput, Conflict, NotFound, TallyError, Unavailable

BYTES_MAX = 1000


async def measure(request: Request) -> Response:
    async with bounded_body(request, BYTES_MAX, request.app.state.budget) as body:
        return PlainTextResponse(str(len(body)))


async def fall_over(_request: Request) -> Response:
    raise RuntimeError("the secret is open sesame")


def make_client(budget: int = 10 * BYTES_MAX) -> TestClient:
    app = Starlette(
        routes=[Route("/measure", measure, methods=["POST"]), Route("/fall", fall_over)],
        exception_handlers={TallyError: answer_tally_error},
    )
    app.state.budget = BodyBudget(budget)
    return TestClient(RequestLog(app), raise_server_exceptions=False)


@pytest.fixture
def client() -> TestClient:
    return make_client()


@pytest.mark.parametrize("header", ["Request-Id", "X-Request-Id"])
def test_a_well_formed_request_id_is_kept(client: TestClient, header: str):
    assert (
        client.post("/measure", content=b"x", headers={header: "job-7/step:3"}).headers["Request-Id"] == "job-7/step:3"
    )


@pytest.mark.parametrize("given_id", ["", "a b", "x" * 129, "é", 'a"b', "-leading", "a\tb"])
def test_a_malformed_request_id_is_replaced(client: TestClient, given_id: str):
    answer = client.post("/measure", content=b"x", headers={"Request-Id": given_id.encode()})
    assert answer.headers["Request-Id"].startswith("req_")
    assert REQUEST_ID.fullmatch(answer.headers["Request-Id"])


def test_every_log_line_of_a_request_has_its_id(client: TestClient):
    import structlog

    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        client.get("/fall", headers={"Request-Id": "abc"})
    assert {line["request_id"] for line in lines} == {"abc"}
    assert [line["event"] for line in lines] == ["unexpected_error", "request"]
    assert (lines[1]["method"], lines[1]["path"], lines[1]["status"]) == ("GET", "/fall", 500)
    assert lines[1]["duration_ms"] >= 0


def test_an_unexpected_exception_shows_nothing_of_itself(client: TestClient):
    app = Starlette(routes=[Route("/fall", fall_over)], exception_handlers={})
    answer = TestClient(RequestLog(_without_error_page(app)), raise_server_exceptions=False).get("/fall")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["code"] == "internal_error"
    assert document["request_id"] == answer.headers["Request-Id"]
    assert "sesame" not in answer.text


def _without_error_page(app: Starlette):
    """The routes alone, so that the exception reaches our own layer."""
    return app.router


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadInput("invalid_month", "no", next_step="mend"), 422),
        (BadInput("malformed_json", "no", next_step="mend"), 400),
        (BadInput("body_too_large", "no", next_step="mend"), 413),
        (BadInput("unsupported_media_type", "no", next_step="mend"), 415),
        (NotFound("unknown_invoice", "no", next_step="mend"), 404),
        (Conflict("request_conflict", "no", next_step="mend"), 409),
        (Unavailable("database_unavailable", "no", next_step="wait"), 503),
    ],
)
def test_each_class_of_error_has_its_status(error: TallyError, status: int):
    assert status_of(error) == status


def test_a_problem_document_has_the_members_that_programs_and_people_need():
    document = problem(422, "invalid_month", "'x' is not a month", "write YYYY-MM", request_id="r1", where="month")
    assert document == {
        "type": "urn:tallystick:error:invalid_month",
        "title": "Invalid month",
        "status": 422,
        "code": "invalid_month",
        "detail": "'x' is not a month",
        "next_step": "write YYYY-MM",
        "request_id": "r1",
        "where": "month",
    }


def refused(answer, status: int, code: str) -> bool:
    return (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(client: TestClient):
    assert client.post("/measure", content=b"x" * BYTES_MAX).text == str(BYTES_MAX)
    assert refused(client.post("/measure", content=b"x" * (BYTES_MAX + 1)), 413, "body_too_large")


def test_a_body_without_a_length_is_counted_while_it_is_read(client: TestClient):
    pulled = 0

    def endless():
        nonlocal pulled
        while pulled < 5000:
            pulled += 1
            yield b"x" * 100

    assert refused(client.post("/measure", content=endless()), 413, "body_too_large")


@pytest.mark.parametrize("length", ["99999999999999999999999999", "1001"])
def test_an_announced_length_past_the_limit_is_refused_without_reading(length: str):
    async def never(*_):
        raise AssertionError("the body was read")

    import asyncio

    sent = []

    async def send(message):
        sent.append(message)

    app = make_client().app
    scope = {
        "type": "http", "method": "POST", "path": "/measure", "raw_path": b"/measure", "query_string": b"",
        "headers": [(b"content-length", length.encode())], "http_version": "1.1", "scheme": "http",
        "root_path": "", "server": ("x", 1), "client": ("x", 1), "asgi": {"version": "3.0"},
    }  # fmt: skip
    asyncio.run(app(scope, never, send))
    assert sent[0]["status"] == 413


def test_an_empty_body_is_refused(client: TestClient):
    assert refused(client.post("/measure", content=b""), 400, "empty_body")
    assert refused(
        client.post("/measure", content=gzip.compress(b""), headers={"Content-Encoding": "gzip"}), 400, "empty_body"
    )


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(min_size=1, max_size=BYTES_MAX), st.integers(1, 3))
def test_gzip_is_unpacked_whatever_the_number_of_members(content: bytes, members: int):
    step = len(content) // members + 1
    packed = b"".join(gzip.compress(content[at : at + step]) for at in range(0, len(content), step))
    answer = make_client().post("/measure", content=packed, headers={"Content-Encoding": "gzip"})
    assert answer.text == str(len(content))


def test_a_gzip_bomb_is_refused_without_being_unpacked(client: TestClient):
    bomb = gzip.compress(gzip.compress(b"\0" * 50_000_000))  # small enough on the wire, and packed twice
    once = gzip.decompress(bomb)
    assert len(bomb) < BYTES_MAX < len(once)
    tracemalloc.start()
    try:
        answer = client.post("/measure", content=bomb, headers={"Content-Encoding": "gzip"})
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert refused(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    "content",
    [b"plain", gzip.compress(b"hello")[:-4], gzip.compress(b"hello") + b"tail"],
    ids=["plain", "cut short", "with a tail"],  # the bytes hold the time of day, and test ids must not
)
def test_what_is_not_gzip_is_refused(client: TestClient, content: bytes):
    assert refused(
        client.post("/measure", content=content, headers={"Content-Encoding": "gzip"}), 400, "malformed_gzip"
    )


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_another_content_encoding_is_refused(client: TestClient, encoding: str):
    answer = client.post("/measure", content=b"x", headers={"Content-Encoding": encoding})
    assert refused(answer, 415, "unsupported_content_encoding")


def test_bodies_past_the_memory_for_all_of_them_are_sent_away_for_a_second():
    client = make_client(budget=100)
    answer = client.post("/measure", content=b"x" * 101)
    assert refused(answer, 503, "busy")
    assert answer.headers["Retry-After"] == "1"
    assert client.post("/measure", content=b"x" * 100).text == "100"  # what was refused holds nothing
