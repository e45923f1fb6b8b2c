"""Model calls through the gateway: what passes is unchanged, what is recorded is exact, what is refused is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from fake_upstream import Reply
from gateway_tools import ACTION, CHAT, PROVIDER_KEY, Stand, chat, chat_answer, gateway, recorded, wait_until
from tallystick.app.answers import Terms
from tallystick.app.cost import latest_pricer
from tallystick.app.verify import verify_ledger


@pytest.fixture
def stand(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    with gateway(database_url, tmp_path, monkeypatch) as opened:
        yield opened


def test_a_call_passes_unchanged_and_is_settled_before_it_is_answered(stand: Stand) -> None:
    body = b' {"model":  "gpt-4o", "messages":[{"role":"user","content":"\\u00e9 \xf0\x9f\x98\x80"}],\n"max_tokens":9 }'
    stand.upstream.reply = Reply(body=chat_answer(), headers={"x-request-id": "prov-1", "openai-organization": "ours"})
    answer = stand.post(body=body, x_tally_request_id="call-1", x_tally_attribute_case="c9")
    assert answer.status_code == 200
    assert answer.content == chat_answer()
    (asked,) = stand.upstream.requests
    assert asked.body == body
    assert asked.target == "/v1/chat/completions"
    assert asked.header("authorization") == f"Bearer {PROVIDER_KEY}"
    assert not [name for name, _ in asked.headers if name.startswith("x-tally")]
    assert stand.token not in str(asked.headers)
    assert answer.headers["x-request-id"] == "prov-1"
    assert "openai-organization" not in answer.headers

    hold, usage, settlement = stand.entries()
    assert (hold["kind"], usage["kind"], settlement["kind"]) == ("hold", "usage", "settlement")
    assert hold["request_id"] == usage["request_id"] == "call-1"
    assert usage["meters"] == {"tokens_in": 100, "tokens_out": 20}
    assert usage["model"] == "gpt-4o-2024-08-06"
    assert usage["attributes"] == {"case": "c9", "provider_request_id": "prov-1", "provider_status": "200"}
    told = {name: value for name, value in answer.headers.items() if name.startswith("x-tally-")}
    assert told == {
        "x-tally-request-id": "call-1",
        "x-tally-hold": f"h{hold['seq']}",
        "x-tally-entry": str(usage["seq"]),
        "x-tally-cost-usd": "0.00045",
        "x-tally-cost-status": "final",
        "x-tally-credits": "5",
        "x-tally-balance": "3495",
    }


def test_recorded_answers_cost_what_the_cost_command_says(stand: Stand) -> None:
    pricer = latest_pricer(stand.runtime.settings.data_dir, stand.runtime.clock)
    paths = {
        ("openai", "chat"): CHAT,
        ("openai", "responses"): "/openai/v1/responses",
        ("anthropic", "default"): "/anthropic/v1/messages",
        ("google", "default"): "/gemini/v1beta/models/gemini-2.5-flash:generateContent",
    }
    compared = 0
    for record in recorded("provider_responses.jsonl"):
        for (provider, flavor), path in paths.items():
            if not any(
                one["provider_id"] == provider and one["api_flavor"] == flavor
                for each in record["extracted"]
                for one in each["extractors"]
            ):
                continue
            try:
                priced = pricer.price_value(record["body"], Terms(provider=provider, flavor=flavor))
            except Exception:  # what cannot be read is another test's
                continue
            if compared >= 60 * (list(paths).index((provider, flavor)) + 1):
                continue
            compared += 1
            raw = json.dumps(record["body"]).encode()
            stand.upstream.reply = Reply(body=raw)
            answer = stand.post(path, chat(input="x", contents=[{"parts": [{"text": "x"}]}]))
            assert answer.content == raw
            told = priced.as_dict()
            if told["cost_usd"] is None:
                assert answer.headers["x-tally-cost-status"] == "unpriced"
            elif "error" not in record["body"]:
                assert answer.headers["x-tally-cost-usd"] == told["cost_usd"], record["body"]
    assert compared > 100


def test_packed_answers_go_on_as_they_came_and_are_read(stand: Stand) -> None:
    for packed in ("gzip", "deflate"):
        stand.upstream.reply = Reply(body=chat_answer(), packed=packed)
        answer = stand.post(accept_encoding="br;q=0.5, gzip, deflate")
        assert answer.headers["content-encoding"] == packed
        assert answer.json() == json.loads(chat_answer())
        assert answer.headers["x-tally-cost-usd"] == "0.00045"
    stand.post(accept_encoding="zstd")
    assert stand.upstream.requests[-1].header("accept-encoding") == "identity"


def test_every_way_of_showing_the_key_is_taken_and_none_reaches_the_provider(stand: Stand) -> None:
    shown: list[tuple[str, dict[str, str], str, str]] = [
        ("/openai/v1/chat/completions", {"authorization": f"Bearer {stand.token}"}, "", "authorization"),
        ("/anthropic/v1/messages", {"x-api-key": stand.token}, "", "x-api-key"),
        (
            "/gemini/v1beta/models/gemini-2.5-flash:generateContent",
            {"x-goog-api-key": stand.token},
            "",
            "x-goog-api-key",
        ),
        (
            "/gemini/v1beta/models/gemini-2.5-flash:generateContent",
            {},
            f"?alt=json&key={stand.token}",
            "x-goog-api-key",
        ),
        ("/openai/v1/chat/completions", {"x-tally-key": stand.token}, "", "authorization"),
        ("/openai/v1/chat/completions", {"authorization": f"BEARER  {stand.token}"}, "", "authorization"),
        (
            "/openai/v1/chat/completions",
            {"x-tally-key": stand.token, "authorization": f"bEARER {stand.token}", "x-api-key": stand.token},
            "",
            "authorization",
        ),
    ]
    for path, headers, query, put in shown:
        with httpx2.Client(base_url=stand.url) as client:
            answer = client.post(path + query, json=chat(), headers={**headers, **ACTION})
        assert answer.status_code == 200, answer.text
        asked = stand.upstream.requests[-1]
        assert (asked.header(put) or "").removeprefix("Bearer ") == PROVIDER_KEY
        assert stand.token not in asked.target + str(asked.headers)
    assert stand.upstream.requests[3].target.endswith(":generateContent?alt=json")


def test_a_key_of_ours_never_goes_along_with_the_callers_own(stand: Stand) -> None:
    own = {"x-tally-key": f"bearer {stand.token}", "authorization": "Bearer sk-own-271828"}
    for more in ({"x-api-key": f"BEARER {stand.token}"}, {"x-goog-api-key": f"Basic {stand.token}"}):
        assert stand.post(**own, **more).status_code == 200
        asked = stand.upstream.requests[-1]
        assert asked.header("authorization") == "Bearer sk-own-271828"
        assert stand.token not in asked.target + str(asked.headers)


def test_the_callers_own_provider_key_goes_through_and_its_cost_is_the_customers(stand: Stand) -> None:
    headers = {"x-tally-key": stand.token, "authorization": "Bearer sk-own-271828", "openai-organization": "theirs"}
    answer = stand.post(**headers)
    assert answer.status_code == 200
    asked = stand.upstream.requests[-1]
    assert asked.header("authorization") == "Bearer sk-own-271828"
    assert asked.header("openai-organization") == "theirs"
    assert stand.usage()[-1]["payer"] == "customer"
    with httpx2.Client(base_url=stand.url) as client:  # what is in the caller's own account is open to it
        assert client.get("/openai/v1/files", headers=headers).status_code == 200


def test_keys_that_are_not_taken_are_told_in_the_providers_shape(stand: Stand) -> None:
    with httpx2.Client(base_url=stand.url) as client:
        missing = client.post(CHAT, json=chat())
        wrong = client.post(CHAT, json=chat(), headers={"authorization": "Bearer sk-somebodys-secret"})
        anthropic = client.post("/anthropic/v1/messages", json=chat(), headers={"x-api-key": "tk_no"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (401, "key_missing")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "key_unknown")
    assert "somebodys" not in wrong.text
    assert (anthropic.status_code, anthropic.json()["error"]["type"]) == (401, "authentication_error")
    assert anthropic.json()["tallystick"]["code"] == "key_unknown"
    assert not stand.upstream.requests


def test_missing_tags_are_named_together(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with gateway(database_url, tmp_path, monkeypatch, defaults={"feature": "chat"}) as stand:
        answer = stand.post()
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "missing_tags"
        assert error["param"] == "x-tally-user, x-tally-session, x-tally-environment"
        answer = stand.post(x_tally_user="u", x_tally_session="s", x_tally_environment="development")
        assert answer.status_code == 200
        assert not stand.upstream.requests[:-1]


def test_what_the_policy_denies_never_reaches_the_provider(stand: Stand) -> None:
    denied = stand.post(x_tally_action="no_such_action")
    assert denied.status_code == 403
    error = denied.json()["error"]
    assert (error["code"], error["type"]) == ("unknown_action", "permission_error")
    assert error["tallystick"]["decision"]["allow"] is False
    assert denied.headers["x-should-retry"] == "false"
    assert not stand.upstream.requests
    assert [one["kind"] for one in stand.entries()] == ["denial"]


def test_an_empty_wallet_is_402_and_a_limit_429_with_the_time_to_wait(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(database_url, tmp_path, monkeypatch, plan="free") as stand:
        answer = stand.post(body=chat(max_tokens=5000), x_tally_action="")
        assert answer.status_code == 429, answer.text
        assert answer.json()["error"]["code"] == "hard_limit_reached"
        assert int(answer.headers["retry-after"]) == 12 * 3600
        assert answer.headers["x-should-retry"] == "false"


def test_an_id_is_charged_once_and_refused_while_it_is_served(stand: Stand) -> None:
    stand.upstream.reply = Reply(body=chat_answer(), first_seconds=0.6)
    first: list[httpx2.Response] = []
    thread = threading.Thread(target=lambda: first.append(stand.post(x_tally_request_id="once")))
    thread.start()
    wait_until(lambda: len(stand.upstream.requests) == 1)
    during = stand.post(x_tally_request_id="once")
    thread.join()
    after = stand.post(x_tally_request_id="once")
    assert first[0].status_code == 200
    assert (during.status_code, during.json()["error"]["code"]) == (409, "request_in_flight")
    assert during.headers["x-should-retry"] == "true"
    assert int(during.headers["retry-after"]) >= 1
    assert (after.status_code, after.json()["error"]["code"]) == (409, "request_already_charged")
    assert "0.00045 USD, 5 credits" in after.json()["error"]["message"]
    assert after.headers["x-should-retry"] == "false"
    assert len(stand.upstream.requests) == 1
    assert len(stand.settlements()) == 1


def test_a_failed_attempt_may_be_repeated_under_its_id_and_only_success_is_charged(stand: Stand) -> None:
    stand.upstream.reply = Reply(status=503, body=b'{"error":{"message":"overloaded"}}')
    failed = stand.post(x_tally_request_id="again")
    assert (failed.status_code, failed.headers["x-tally-credits"]) == (503, "0")
    stand.upstream.reply = Reply(raw=b"")
    assert stand.post(x_tally_request_id="again").status_code == 502
    stand.upstream.reply = Reply(body=chat_answer())
    done = stand.post(x_tally_request_id="again")
    assert (done.status_code, done.headers["x-tally-request-id"]) == (200, "again~3")
    ids = [one["request_id"] for one in stand.entries() if one["kind"] == "hold"]
    assert ids == ["again", "again~2", "again~3"]
    assert [one["request"]["outcome"] for one in stand.settlements()] == ["failure", "failure", "success"]
    assert stand.post(x_tally_request_id="again").json()["error"]["code"] == "request_already_charged"
    changed = stand.post(body=chat(max_tokens=7), x_tally_request_id="again")
    assert (changed.status_code, changed.json()["error"]["code"]) == (409, "request_id_conflict")


def test_free_routes_pass_and_the_operators_account_stays_closed(stand: Stand) -> None:
    stand.upstream.reply = Reply(body=b'{"data":[]}')
    with stand.client() as client:
        assert client.get("/openai/v1/models").json() == {"data": []}
        assert client.get("/anthropic/v1/models?limit=2").status_code == 200
        assert stand.upstream.requests[-1].target == "/v1/models?limit=2"
        assert client.post("/anthropic/v1/messages/count_tokens", json=chat()).status_code == 200
        for method, path in (
            ("GET", "/openai/v1/files"), ("GET", "/openai/v1/responses/resp_1"), ("DELETE", "/openai/v1/models/m"),
            ("POST", "/openai/v1/files"), ("POST", "/openai/v1/nothing"), ("GET", "/openai/v1/%2e%2e/admin"),
            ("GET", "/openai//evil.example/v1/models"),
        ):  # fmt: skip
            answer = client.request(method, path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_path"), path
        batch = client.post("/openai/v1/batches", json={})
        assert (batch.status_code, batch.json()["error"]["code"]) == (400, "unmetered_call")
        background = client.post("/openai/v1/responses", json=chat(background=True, input="x"), headers=ACTION)
        assert (background.status_code, background.json()["error"]["code"]) == (400, "unmetered_call")
        assert client.get("/nobody/v1/models").status_code == 404
    assert len(stand.upstream.requests) == 3
    assert not stand.entries()


def test_bodies_that_are_too_large_packed_or_not_json_are_refused(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(database_url, tmp_path, monkeypatch, body_bytes_max=5000) as stand:
        large = stand.post(body=b'{"a":"' + b"x" * 6000 + b'"}')
        assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")
        with stand.client() as client:
            chunks = client.post(CHAT, content=iter([b"x" * 3000] * 3), headers=ACTION)
        assert (chunks.status_code, chunks.json()["error"]["code"]) == (413, "body_too_large")
        packed = stand.post(body=b"x", content_encoding="gzip")
        assert (packed.status_code, packed.json()["error"]["code"]) == (415, "unsupported_content_encoding")
        garbled = stand.post(body=b'{"model"')
        assert (garbled.status_code, garbled.json()["error"]["code"]) == (400, "malformed_json")
        twice = stand.post(body=b'{"model":"gpt-4o","max_tokens":1,"max_tokens":9000,"messages":[]}')
        assert (twice.status_code, twice.json()["error"]["code"]) == (400, "duplicate_key")
        assert not stand.upstream.requests
        assert not stand.entries()


def test_a_provider_behind_a_path_with_a_version_gets_it_once(stand: Stand) -> None:
    assert stand.post("/other/v1/chat/completions").status_code == 200
    assert stand.upstream.requests[-1].target == "/base/v1/chat/completions"
    assert stand.post("/other/chat/completions").status_code == 200
    assert stand.upstream.requests[-1].target == "/base/v1/chat/completions"


def test_what_passes_the_gateway_verifies(stand: Stand) -> None:
    stand.post()
    stand.upstream.reply = Reply(status=400, body=b"{}")
    stand.post()
    report = verify_ledger(stand.runtime)
    assert not report.findings.kept, report.findings.kept
