"""Tools through the gateway, bytes to the caller as a meter, and settlements that wait on disk for the ledger."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from account_operations import wrongs
from fake_upstream import Reply, stream
from gateway_tools import NOW, PROVIDER_KEY, WHOLE, Stand, chat, chat_answer, gateway, wait_until
from tallystick.app.release import release
from tallystick.app.settlement_queue import queue_state
from tallystick.journal.settlement_file import SettlementFile
from tallystick.journal.steps import install

TOOLS = """\
tools:
  weather:
    url: {url}/v2/forecast
    key_env: TEST_PROVIDER_KEY
    auth_header: x-weather-key
    methods: [GET, POST]
    egress: true
  closed:
    url: http://127.0.0.1:1/
"""


@pytest.fixture
def stand(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    with gateway(database_url, tmp_path, monkeypatch, tools=TOOLS, plan="pro") as opened:
        yield opened


def test_a_tool_is_held_for_called_and_metered(stand: Stand) -> None:
    stand.upstream.reply = Reply(body=b'{"sun": true}', headers={"x-request-id": "w-1"})
    with stand.client() as client:
        answer = client.get("/tool/weather?city=Bern&key=" + stand.token, headers={"x-tally-request-id": "t1"})
        posted = client.post("/tool/weather", json={"city": "Genf"})
    assert answer.content == b'{"sun": true}'
    first, second = stand.upstream.requests
    assert first.target == "/v2/forecast?city=Bern"
    assert first.header("x-weather-key") == PROVIDER_KEY
    assert first.header("authorization") is None
    assert second.json == {"city": "Genf"}
    usage = stand.usage()[0]
    assert usage["meters"] == {"tool_calls": 1, "egress_bytes": 13}
    assert (usage["model"], usage["provider"], usage["request_id"]) == ("weather", None, "t1")
    assert usage["attributes"]["provider_request_id"] == "w-1"
    assert (answer.headers["x-tally-cost-usd"], answer.headers["x-tally-entry"]) == ("0", str(usage["seq"]))
    assert posted.status_code == 200
    assert stand.open_holds() == 0


def test_tools_that_fail_are_failures_and_unknown_ones_are_refused(stand: Stand) -> None:
    with stand.client() as client:
        stand.upstream.reply = Reply(status=500, body=b"no")
        failed = client.get("/tool/weather")
        assert (failed.status_code, failed.content) == (500, b"no")
        assert stand.settlements()[-1]["request"]["outcome"] == "failure"
        stand.upstream.reply = Reply(raw=b"nothing like HTTP\r\n\r\n")
        garbled = client.get("/tool/weather")
        assert (garbled.status_code, garbled.json()["code"]) == (502, "upstream_garbage")
        closed = client.post("/tool/closed")
        assert (closed.status_code, closed.json()["code"]) == (502, "upstream_unreachable")
        assert [one["kind"] for one in stand.entries()][-1] == "release"
        assert closed.headers["content-type"] == "application/problem+json"
        for path, code in (
            ("/tool/none", "unknown_tool"),
            ("/tool/", "unknown_tool"),
            ("/tool/weather/x", "unknown_tool"),
        ):
            assert client.get(path).json()["code"] == code
        assert client.request("DELETE", "/tool/weather").status_code == 405
        assert client.get("/tool/weather", headers={"authorization": ""}).status_code == 401
    assert stand.open_holds() == 0


def test_a_limit_on_tools_is_asked_before_the_call(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(database_url, tmp_path, monkeypatch, tools=TOOLS, plan="free") as stand, stand.client() as client:
        answers = [client.get("/tool/weather").status_code for _ in range(12)]
    assert answers == [200] * 10 + [429] * 2
    assert len(stand.upstream.requests) == 10


def test_bytes_to_the_caller_are_a_meter_where_the_route_says_so(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(database_url, tmp_path, monkeypatch, more="egress: true") as stand:
        stand.post()
        assert stand.usage()[-1]["meters"]["egress_bytes"] == len(chat_answer())
        stand.upstream.reply = stream(WHOLE, cuts=range(1, 900, 30))
        stand.post(body=chat(stream=True, stream_options={"include_usage": True}))
        assert stand.usage()[-1]["meters"]["egress_bytes"] == len(WHOLE)


# ── settlements that wait ───────────────────────────────────────────────────────────────────────────────────────────


def test_an_asynchronous_route_answers_once_it_is_on_disk_and_settles_a_moment_later(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(database_url, tmp_path, monkeypatch, more="commit: async") as stand:
        answers = [stand.post(x_tally_request_id=f"later-{number}") for number in range(5)]
        stand.upstream.reply = stream(WHOLE)
        streamed = stand.post(body=chat(stream=True), x_tally_request_id="later-5")
        for answer in answers:
            assert answer.headers["x-tally-cost-status"] == "queued"
            assert "x-tally-cost-usd" not in answer.headers
        assert b'"status":"queued"' in streamed.content
        stand.wait_settled(6)
        assert sorted(one["request_id"] for one in stand.usage()) == [f"later-{number}" for number in range(6)]
        assert {one["result"]["charged"][0]["amount_pico"] for one in stand.settlements()} == {str(5 * 10**12)}
        wait_until(lambda: queue_state(stand.runtime).waiting == 0)
        again = stand.post(x_tally_request_id="later-0")
        assert again.json()["error"]["code"] == "request_already_charged"
        assert wrongs(stand.runtime) == []


def test_what_was_queued_is_drained_once_by_whoever_comes_after(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(database_url, tmp_path, monkeypatch, more="commit: async") as stand:
        died: list[str] = []

        def die(step: str) -> None:
            if step == "settlements.written" and not died:
                died.append(step)
                raise RuntimeError("the process dies here")

        install(die)
        try:
            stand.post(x_tally_request_id="twice")
            wait_until(lambda: bool(died))
            stand.wait_settled(1)
        finally:
            install(None)
        wait_until(lambda: queue_state(stand.runtime).waiting == 0)
        assert len(stand.usage()) == len(stand.settlements()) == 1


def test_a_settlement_whose_hold_is_over_is_recorded_and_one_that_is_refused_is_kept_and_shown(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(database_url, tmp_path, monkeypatch, more="commit: async") as stand:
        install(lambda step: hold_on(stand) if step == "settlements.queued" else None)
        try:
            stand.post()
        finally:
            install(None)
        wait_until(lambda: len(stand.usage()) == 1)
        assert not stand.settlements()
        wait_until(lambda: queue_state(stand.runtime).waiting == 0)
        with closing(SettlementFile(stand.runtime.settings.data_dir)) as file:
            unknown = b'{"org_id":"acme","request_id":"h999","salt":"AAAA","of_hold":{"user_id":"u","session_id":"s",'
            unknown += (
                b'"feature":"f","environment":"e","api_key_id":"k"},"settle":{"hold_seq":999,"outcome":"success"}}'
            )
            file.add([("acme", 999, unknown)], "2026-11-02T12:00:00Z")
        wait_until(lambda: queue_state(stand.runtime).refused == 1)
        with stand.client() as client:
            (check,) = [one for one in client.get("/readyz").json()["checks"] if one["name"] == "settlements"]
        assert not check["ok"]
        assert check["figures"]["refused"] == 1


def hold_on(stand: Stand) -> None:
    """Somebody else ends the hold first."""
    (hold,) = [one["seq"] for one in stand.entries() if one["kind"] == "hold"]
    release(stand.runtime, {"org_id": "acme", "hold_id": f"h{hold}", "reason": "by hand"})


@pytest.mark.parametrize("more", ["", "commit: async"])
def test_usage_whose_hold_has_expired_is_recorded_and_charged_nothing(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    instant = [NOW]
    with gateway(database_url, tmp_path, monkeypatch, more=more, clock=lambda: instant[0]) as stand:
        stand.upstream.reply = Reply(body=chat_answer(), first_seconds=0.3)
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(stand.post()))
        thread.start()
        wait_until(lambda: len(stand.upstream.requests) == 1)
        instant[0] += timedelta(minutes=20)
        thread.join()
        assert answers[0].status_code == 200
        wait_until(lambda: len(stand.usage()) == 1)
        assert stand.usage()[0]["meters"] == {"tokens_in": 100, "tokens_out": 20}
        assert stand.usage()[0]["cost_pico"] == 450_000_000
        assert not stand.settlements()
