"""Around other libraries: ASGI apps, LiteLLM's callbacks, OpenTelemetry's spans."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx2
import pytest

from tallystick_sdk import AsyncTally, Retry, Tally, current_work
from tallystick_sdk.asgi import Action, TallyMiddleware

USAGE = {"provider": "openai", "model": "gpt-4o-mini", "meters": {"tokens_in": 1000, "tokens_out": 200}}


# ── ASGI ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def app_of(tally: Any, seen: list[Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            seen.append(scope["type"])
            return
        seen.append((scope["path"], current_work() is not None))
        if scope["path"].endswith("/boom"):
            raise RuntimeError("boom")
        if scope["path"].endswith("/silent"):
            return
        tally.record(USAGE)
        status = {"missing": 404, "nothing": 204}.get(scope["path"].rpartition("/")[2], 200)
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"do", "more_body": True})
        await send({"type": "http.response.body", "body": b"ne"})

    return app


def who(scope: Any) -> dict[str, Any]:
    return {"user_id": "u-9", "session_id": "s-9"}


async def who_later(scope: Any) -> dict[str, Any]:
    return {"user_id": "u-9", "session_id": "s-9"}


@pytest.mark.parametrize("kind", [Tally, AsyncTally])
def test_each_route_is_an_action_settled_by_the_status_of_its_answer(org: Any, kind: Any) -> None:
    tally = kind(base_url=org.url, org_id=org.org_id, feature="documents", environment="production")
    seen: list[Any] = []
    app = TallyMiddleware(
        app_of(tally, seen),
        tally,
        actions={
            "POST /documents/{id}/tailor": Action("tailor", key="{id}"),
            "POST /files/{rest:path}": Action("tailor", key="{rest}"),
            "* /research": "research",
        },
        identify=who if kind is Tally else who_later,
    )

    async def run() -> list[tuple[int, str]]:
        found = []
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://app") as client:
            for path in ("documents/1/tailor", "documents/1/tailor", "files/a/missing", "files/b/nothing", "free"):
                answer = await client.post(f"/{path}")
                found.append((answer.status_code, answer.text))
            for path in ("files/boom", "files/silent"):
                with pytest.raises(Exception):  # noqa: B017, PT011  whatever the transport makes of it
                    (await client.post(f"/{path}")).raise_for_status()
        await app({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
        return found

    answers = asyncio.run(run())
    assert answers == [(200, "done"), (200, "done"), (404, "done"), (204, "done"), (200, "done")]
    assert seen[-1] == "lifespan"
    assert ("/free", False) in seen
    outcomes = [entry for entry in org.history()[1:] if entry["kind"] in ("settlement", "release")]
    charged = [(entry["kind"], entry["available_change"]) for entry in outcomes]
    assert [kind for kind, _ in charged] == ["settlement"] * 4 + ["release"] * 2
    assert Tally(base_url=org.url, org_id=org.org_id, spool=False).wallet().available == Decimal(95)
    closed = tally.close()
    if asyncio.iscoroutine(closed):
        asyncio.run(closed)
    events = org.ledger()
    assert {event["user_id"] for event in events} == {"u-9"}
    assert sorted(event["outcome"] for event in events) == ["success"] * 5
    assert sorted(str(event["action"]) for event in events) == ["None", *["tailor"] * 4]


def test_the_end_of_an_answer_waits_for_the_settlement(tally: Tally) -> None:
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all of it"})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            order.append(f"{message['body'].decode()} {message['more_body']} {tally.wallet().available}")

    scope = {"type": "http", "method": "GET", "path": "/x"}
    asyncio.run(TallyMiddleware(app, tally, actions={"GET /x": "tailor"})(scope, None, send))  # type: ignore[arg-type]
    assert order == ["all of it True 95", " False 95"]


def test_a_denial_is_a_problem_document_and_the_app_is_not_asked(tally: Tally) -> None:
    seen: list[Any] = []
    action = Action("research", model="gpt-4o", meters={"tokens_in": 10**9})
    app = TallyMiddleware(app_of(tally, seen), tally, actions={"GET /research": action})
    answer = _get(app, "/research")
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["decision"]["allow"]) == (402, "insufficient_credits", False)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["decision"]["next_step"]["kind"] == "top_up"
    assert seen == []


def test_what_is_wrong_with_our_own_set_up_is_no_business_of_the_customers(tally: Tally, unused_url: str) -> None:
    app = TallyMiddleware(app_of(tally, []), Tally(base_url=unused_url), actions={"GET /x": "tailor"})
    answer = _get(app, "/x")
    assert (answer.status_code, answer.json()["code"]) == (500, "billing_failed")
    assert "org_id" not in answer.text
    away = Tally(base_url=unused_url, retry=Retry(deadline_seconds=0), **tally.default_tags)
    answer = _get(TallyMiddleware(app_of(away, []), away, actions={"GET /x": "tailor"}), "/x")
    assert (answer.status_code, answer.json()["code"]) == (503, "server_unreachable")
    for one in (away,):
        one.close(0)


@pytest.mark.parametrize("route", ["/x", "get /x", "GET x", "GET"])
def test_a_route_that_is_none_is_an_error_at_once(tally: Tally, route: str) -> None:
    with pytest.raises(ValueError, match="is no route"):
        TallyMiddleware(app_of(tally, []), tally, actions={route: "tailor"})
    with pytest.raises(ValueError, match="no parameter 'document'"):
        TallyMiddleware(app_of(tally, []), tally, actions={"GET /{id}": Action("tailor", key="{document}")})


def _get(app: Any, path: str) -> Any:
    async def run() -> Any:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://app") as client:
            return await client.get(path)

    return asyncio.run(run())


# ── LiteLLM ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def called(**more: Any) -> dict[str, Any]:
    """What LiteLLM passes to callbacks, as its documentation shows it."""
    return {
        "model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "Say this is a test"}],
        "custom_llm_provider": "anthropic", "litellm_call_id": "call-1", "stream": False, "cache_hit": False,
        "response_cost": 0.0012,
        "litellm_params": {"metadata": {"user_id": "u-5", "tally_feature": "search", "job": 7}},
        **more,
    }  # fmt: skip


def answered(**usage: Any) -> Any:
    stated = {
        "prompt_tokens": 3000, "completion_tokens": 40, "total_tokens": 3040,
        "prompt_tokens_details": SimpleNamespace(cached_tokens=2000, cache_creation_tokens=500, audio_tokens=None),
        "completion_tokens_details": SimpleNamespace(reasoning_tokens=15), "cache_creation_input_tokens": 500,
        "cache_read_input_tokens": 2000, **usage,
    }  # fmt: skip
    return SimpleNamespace(id="chatcmpl-9", model="claude-sonnet-4-5", choices=[], usage=SimpleNamespace(**stated))


BEGAN = datetime.now() - timedelta(seconds=30)
ENDED = BEGAN + timedelta(seconds=2)
METERS = {
    "tokens_in": 500, "cache_read_tokens": 2000, "cache_write_tokens": 500, "tokens_out": 25, "reasoning_tokens": 15,
}  # fmt: skip


def test_a_call_of_litellm_is_recorded_once_whichever_callbacks_come(tally: Tally, org: Any) -> None:
    logger = tally.litellm_logger(session_id="s-5")
    logger.log_pre_api_call("m", [], called())
    logger.log_post_api_call(called(), None, BEGAN, ENDED)
    logger.log_success_event(called(), answered(), BEGAN, ENDED)
    asyncio.run(logger.async_log_success_event(called(), answered(), BEGAN, ENDED))
    logger(called(), answered(), BEGAN, ENDED)
    assert tally.flush()
    (event,) = org.ledger()
    assert (event["provider"], event["model"], event["meters"]) == ("anthropic", "claude-sonnet-4-5", METERS)
    assert (event["user_id"], event["session_id"], event["feature"]) == ("u-5", "s-5", "search")
    assert (event["request_id"], event["latency_ms"]) == ("litellm-call-1", 2000)
    assert abs(datetime.fromisoformat(event["time"]).timestamp() - ENDED.timestamp()) < 0.01


def test_a_stream_of_litellm_counts_at_its_end_and_its_cache_counts_nothing(tally: Tally, org: Any) -> None:
    logger = tally.litellm_logger()
    chunk = SimpleNamespace(id="chatcmpl-9", model="gpt-4o-mini", choices=[])
    streamed = called(stream=True, custom_llm_provider="openai", model="gpt-4o-mini")
    logger.log_stream_event(streamed, chunk, BEGAN, ENDED)
    logger.log_success_event(streamed, chunk, BEGAN, ENDED)
    whole = {
        "complete_streaming_response": {"model": "gpt-4o-mini", "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    }
    logger.log_success_event({**streamed, **whole}, chunk, BEGAN, ENDED)
    logger.log_success_event(called(cache_hit=True, litellm_call_id="call-2"), answered(), BEGAN, ENDED)
    assert tally.flush()
    assert [event["meters"] for event in org.ledger()] == [{"tokens_in": 7, "tokens_out": 3}]


def test_a_failure_of_litellm_does_not_stand_in_the_way_of_its_retry(tally: Tally, org: Any) -> None:
    logger = tally.litellm_logger()
    error = type("RateLimitError", (Exception,), {"status_code": 429})("the key sk-1 is over quota")
    logger.log_failure_event(called(exception=error), None, BEGAN, ENDED)
    asyncio.run(logger.async_log_failure_event(called(exception=error), None, BEGAN, ENDED))
    logger.log_success_event(called(), answered(), BEGAN, ENDED)
    logger.log_success_event(None, None, None, None)
    assert tally.flush()
    events = org.ledger()
    assert [event["outcome"] for event in events] == ["failure", "failure", "success"]
    assert events[0]["attributes"] == {"error": "RateLimitError (429)"}
    assert "sk-1" not in json.dumps(events)


def test_it_is_one_of_litellms_own_where_litellm_is(tally: Tally, monkeypatch: Any) -> None:
    class CustomLogger:
        def __init__(self, **_: Any) -> None:
            self.begun = True

        def some_other_hook(self) -> str:
            return "theirs"

    module = ModuleType("litellm.integrations.custom_logger")
    module.CustomLogger = CustomLogger  # type: ignore[attr-defined]
    for name in ("litellm", "litellm.integrations"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "litellm.integrations.custom_logger", module)
    logger: Any = tally.litellm_logger()
    assert isinstance(logger, CustomLogger)
    assert (logger.begun, logger.some_other_hook()) == (True, "theirs")
    logger.log_success_event(called(), answered(), BEGAN, ENDED)
    assert tally.stats().recorded == 1


# ── OpenTelemetry ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def tracer(tally: Tally) -> Any:
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    provider = trace.TracerProvider()
    provider.add_span_processor(tally.span_processor(feature="agents"))
    return provider.get_tracer("test")


def span_of(tracer: Any, **attributes: Any) -> None:
    with tracer.start_as_current_span("chat") as span:
        for name, value in attributes.items():
            span.set_attribute(name.replace("__", "."), value)


CHAT_SPAN = {
    "gen_ai__operation__name": "chat", "gen_ai__provider__name": "gcp.vertex_ai",
    "gen_ai__request__model": "gemini-flash",
    "gen_ai__response__model": "gemini-2.5-flash", "gen_ai__response__id": "resp-1", "gen_ai__conversation__id": "c-1",
    "gen_ai__usage__input_tokens": 100, "gen_ai__usage__output_tokens": 30,
    "gen_ai__usage__cache_read__input_tokens": 60, "gen_ai__usage__reasoning__output_tokens": 10,
}  # fmt: skip


def test_spans_of_model_calls_are_recorded_and_sums_of_agents_are_not(tally: Tally, tracer: Any, org: Any) -> None:
    with tally.tags(user_id="u-3"), tracer.start_as_current_span("agent") as agent:
        agent.set_attribute("gen_ai.operation.name", "invoke_agent")
        agent.set_attribute("gen_ai.usage.input_tokens", 100)
        span_of(tracer, **CHAT_SPAN, tally__org_id=org.org_id)
        span_of(tracer, http__method="GET")
    assert tally.flush()
    (event,) = org.ledger()
    assert (event["provider"], event["model"]) == ("google", "gemini-2.5-flash")
    assert event["meters"] == {"tokens_in": 40, "cache_read_tokens": 60, "tokens_out": 20, "reasoning_tokens": 10}
    assert (event["user_id"], event["session_id"], event["feature"]) == ("u-3", "c-1", "agents")
    assert event["request_id"].startswith("otel-")
    assert event["attributes"] == {"provider_request_id": "resp-1"}


def test_older_names_and_counts_beside_each_other_are_understood(tally: Tally, tracer: Any, org: Any) -> None:
    span_of(
        tracer, gen_ai__system="anthropic", gen_ai__request__model="claude-sonnet-4-5", gen_ai__usage__prompt_tokens=5,
        gen_ai__usage__completion_tokens=2, gen_ai__usage__cache_read_input_tokens=50,
        gen_ai__usage__cache_creation__input_tokens=7,
    )  # fmt: skip
    assert tally.flush()
    assert [event["meters"] for event in org.ledger()] == [
        {"tokens_in": 5, "cache_read_tokens": 50, "cache_write_tokens": 7, "tokens_out": 2}
    ]


def test_a_span_that_failed_or_says_nonsense_is_a_failure_and_breaks_nothing(
    tally: Tally, tracer: Any, org: Any, caplog: Any
) -> None:
    named = {"gen_ai__operation__name": "chat", "gen_ai__provider__name": "openai", "gen_ai__request__model": "gpt-4o"}
    span_of(tracer, **named, error__type="timeout")
    span_of(tracer, **named, gen_ai__usage__input_tokens="many")
    span_of(tracer, **named, gen_ai__usage__input_tokens=3, gen_ai__usage__cache_read__input_tokens=-5)
    span_of(tracer, **named)
    assert tally.flush()
    assert [(event["outcome"], event["meters"]) for event in org.ledger()] == [("failure", {})] * 3
    assert "states no usage" in caplog.text


def test_usage_of_a_span_within_billable_work_is_part_of_the_work(tally: Tally, tracer: Any, org: Any) -> None:
    with tally.billable("tailor") as work:
        span_of(tracer, **CHAT_SPAN)
    assert [event.cost_status for event in work.settlement.events] == ["final"]
    assert work.settlement.cost_usd > 0
    assert org.ledger()[0]["action"] == "tailor"
