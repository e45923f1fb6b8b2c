"""A refusal of ours raises in the official clients what a provider's own would, and carries our members."""

from __future__ import annotations

import json

import httpx2
import pytest

from tallystick.wire.refusals import RETRY_SECONDS_MAX, Refusal, error_event, refusal_of

MEMBERS = {
    "code": "hard_limit_reached",
    "detail": "The limit of the day is reached.",
    "next_step": "wait until tomorrow",
    "decision": {"allow": False, "code": "hard_limit_reached"},
}


def served(refusal: Refusal) -> tuple[httpx2.Client, list[httpx2.Request]]:
    """A client to a server that answers everything with the refusal, and what it was asked."""
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(refusal.status, headers=list(refusal.headers), content=refusal.body)

    return httpx2.Client(transport=httpx2.MockTransport(answer)), seen


def call_openai(refusal: Refusal, **options):
    import openai  # seconds, which only the process that comes here is to spend

    http, seen = served(refusal)
    client = openai.OpenAI(api_key="k", base_url="http://gateway/v1", http_client=http, **options)
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    return caught.value, len(seen)


def call_anthropic(refusal: Refusal, **options):
    import anthropic

    http, seen = served(refusal)
    client = anthropic.Anthropic(api_key="k", base_url="http://gateway", http_client=http, **options)
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}])
    return caught.value, len(seen)


OPENAI_RAISES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    402: "APIStatusError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    413: "APIStatusError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    502: "InternalServerError",
}
ANTHROPIC_RAISES = OPENAI_RAISES | {413: "RequestTooLargeError"}


@pytest.mark.parametrize(("status", "error"), OPENAI_RAISES.items())
def test_openais_client_raises_what_it_always_raises(status, error):
    import openai

    raised, calls = call_openai(refusal_of("openai", status, MEMBERS, request_id="r1", may_retry=False))
    assert isinstance(raised, getattr(openai, error))
    assert calls == 1
    assert (raised.code, raised.param) == ("hard_limit_reached", None)
    assert raised.body["message"] == "The limit of the day is reached. Wait until tomorrow."
    assert raised.body["tallystick"] == {**MEMBERS, "request_id": "r1"}
    assert raised.response.json()["tallystick"] == {**MEMBERS, "request_id": "r1"}


@pytest.mark.parametrize(("status", "error"), ANTHROPIC_RAISES.items())
def test_anthropics_client_raises_what_it_always_raises(status, error):
    import anthropic

    raised, calls = call_anthropic(refusal_of("anthropic", status, MEMBERS, request_id="r1", may_retry=False))
    assert isinstance(raised, getattr(anthropic, error))
    assert calls == 1
    assert raised.body["type"] == "error"
    assert raised.body["error"]["message"].startswith("The limit of the day is reached.")
    assert raised.body["request_id"] == "r1"
    assert raised.body["tallystick"]["decision"] == MEMBERS["decision"]


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (402, "FAILED_PRECONDITION"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (409, "ABORTED"),
        (413, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ],
)
def test_geminis_errors_have_googles_words(status, word):
    body = json.loads(refusal_of("gemini", status, MEMBERS, request_id="r1").body)
    assert body["error"] == {"code": status, "message": body["error"]["message"], "status": word, "details": []}
    assert body["tallystick"]["code"] == "hard_limit_reached"


@pytest.mark.parametrize(
    ("status", "seconds", "retried"),
    [
        (402, None, False),
        (409, None, False),
        (429, None, False),
        (429, RETRY_SECONDS_MAX, True),
        (429, RETRY_SECONDS_MAX + 1, False),
        (503, 1, True),
        (503, 3600, False),
        (500, None, True),
    ],
)
@pytest.mark.parametrize("flavor", ["openai", "anthropic", "gemini"])
def test_what_a_retry_cannot_change_is_not_to_be_retried(flavor, status, seconds, retried):
    headers = dict(refusal_of(flavor, status, MEMBERS, request_id="r", retry_after_seconds=seconds).headers)
    assert headers["x-should-retry"] == ("true" if retried else "false")
    assert headers.get("retry-after") == (None if seconds is None else str(seconds))
    assert headers["content-type"] == "application/json"


def test_the_official_clients_obey():
    never = refusal_of("openai", 429, MEMBERS, request_id="r", retry_after_seconds=86_400)
    assert call_openai(never, max_retries=3)[1] == 1
    assert call_anthropic(refusal_of("anthropic", 409, MEMBERS, request_id="r"), max_retries=3)[1] == 1


def test_the_length_is_the_bodys():
    refusal = refusal_of("openai", 400, {**MEMBERS, "detail": "größer"}, request_id="r")
    assert dict(refusal.headers)["content-length"] == str(len(refusal.body))


def test_the_place_of_a_fault_is_openais_param():
    members = {"code": "text_too_long", "detail": "it is long", "next_step": "cut it", "where": "x-tally-user"}
    body = json.loads(refusal_of("openai", 400, members, request_id="r").body)
    assert body["error"]["param"] == body["tallystick"]["where"] == "x-tally-user"


@pytest.mark.parametrize("flavor", ["openai", "anthropic", "gemini"])
def test_a_stream_can_end_with_an_error_of_ours(flavor):
    event = error_event(flavor, 502, MEMBERS, request_id="r")
    lines = event.decode().rstrip("\n").split("\n")
    assert event.endswith(b"\n\n")
    assert (lines[0] == "event: error") == (flavor == "anthropic")
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["message"].startswith("The limit")
