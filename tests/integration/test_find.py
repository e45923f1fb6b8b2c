"""`find` tells the whole story behind an id, whichever id somebody has at hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fake_upstream import Reply
from gateway_tools import NOW, Stand, chat_answer, gateway, wait_until
from tallystick.app.find import find
from tallystick.app.hold_expiry import expire_due
from tallystick.app.keys import create_key
from tallystick.app.refund import refund
from tallystick.core.errors import NotFound


@pytest.fixture
def stand(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    with gateway(database_url, tmp_path, monkeypatch) as opened:
        yield opened


def one(stand: Stand, text: str, **asked: Any) -> dict[str, Any]:
    found = find(stand.runtime, text, **asked)
    (story,) = found["stories"]
    return story


def step(story: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in story["steps"] if each["step"] == name]
    return found


def test_one_call_is_found_by_each_of_its_ids_and_told_from_decision_to_wallet(stand: Stand) -> None:
    stand.upstream.reply = Reply(body=chat_answer(), headers={"x-request-id": "prov-77"})
    stand.post(x_tally_request_id="other")
    answer = stand.post(x_tally_request_id="call-1", x_tally_work_key="doc-9")
    stand.post(x_tally_request_id="another")
    hold = answer.headers["x-tally-hold"]
    usage, settlement = int(answer.headers["x-tally-entry"]), int(answer.headers["x-tally-entry"]) + 1
    story = one(stand, "call-1")
    assert [each["step"] for each in story["steps"]] == ["decision", "hold", "call", "usage", "price", "settlement"]
    assert story["request_ids"] == ["call-1"]
    assert step(story, "decision")["allow"]
    assert step(story, "decision")["work_key"] == "doc-9"
    assert step(story, "hold")["hold_id"] == hold
    assert step(story, "call")["provider_request_id"] == "prov-77"
    assert step(story, "call")["outcome"] == "success"
    assert step(story, "usage")["meters"] == {"tokens_in": 100, "tokens_out": 20}
    assert story["cost_usd"] == answer.headers["x-tally-cost-usd"]
    assert story["charged_credits"] == answer.headers["x-tally-credits"]
    assert story["wallet"]["after"]["available"] == answer.headers["x-tally-balance"]
    lines = step(story, "price")["lines"]
    assert {line["meter"]: line["row"]["price_usd"] for line in lines} == {"tokens_in": "2.5", "tokens_out": "10"}
    by = {each["seq"]: each for each in story["entries"]}
    assert sorted(by) == [int(hold[1:]), usage, settlement]
    assert all(each["block"] is None and each["in"] == "database" and len(each["leaf"]) == 64 for each in by.values())

    for text, found_as in (("doc-9", "work_key"),):
        assert one(stand, text) == {**story, "found_as": [found_as]}
    for text in (hold, hold[1:], f"#{usage}", f"s{settlement}"):
        assert one(stand, text, org_id="acme") == {**story, "found_as": ["entry_id"]}
    provider = find(stand.runtime, "prov-77")["stories"][0]
    assert provider["found_as"] == ["provider_request_id"]
    assert set(provider["request_ids"]) == {"other", "call-1", "another"}


def test_what_refers_to_a_call_is_part_of_its_story(stand: Stand) -> None:
    answer = stand.post(x_tally_request_id="call-1")
    settlement = int(answer.headers["x-tally-entry"]) + 1
    members = {"request_id": "f1", "settlement_id": f"s{settlement}", "author": "ann", "reason": "wrong"}
    refund(stand.runtime, {"org_id": "acme", **members})
    story = one(stand, "call-1")
    assert story["steps"][-1]["step"] == "refund"
    assert story["charged_credits"] == "0"
    assert one(stand, "f1") == {**story}


def test_attempts_and_denials_under_one_id_are_one_story(stand: Stand) -> None:
    stand.upstream.reply = Reply(status=500, body=b'{"error": {"message": "no"}}')
    stand.post(x_tally_request_id="call-1")
    stand.upstream.reply = Reply(body=chat_answer())
    assert stand.post(x_tally_request_id="call-1").status_code == 200
    story = one(stand, "call-1")
    assert story["request_ids"] == ["call-1", "call-1~2"]
    assert [each["outcome"] for each in story["steps"] if each["step"] == "call"] == ["failure", "success"]
    assert one(stand, "call-1~2") == story

    denied = stand.post(x_tally_request_id="call-2", x_tally_action="nonsense")
    assert denied.status_code == 403
    story = one(stand, "call-2")
    decision = step(story, "decision")
    assert (decision["allow"], decision["code"]) == (False, "unknown_action")
    assert [each["kind"] for each in story["entries"]] == ["denial"]


def test_what_is_nowhere_is_not_found_and_it_is_said_where_one_looked(stand: Stand) -> None:
    with pytest.raises(NotFound) as caught:
        find(stand.runtime, "nothing")
    assert caught.value.code == "not_found"
    for place in ("request ids", "work keys", "provider request ids", "sealed blocks"):
        assert place in caught.value.detail
    with pytest.raises(NotFound) as caught:
        find(stand.runtime, "h999", org_id="acme")
    assert "entry ids" in caught.value.detail
    with pytest.raises(NotFound, match="nobody"):
        find(stand.runtime, "h1", org_id="nobody")


def test_it_is_told_over_http_to_operators_alone(stand: Stand) -> None:
    hold = stand.post(x_tally_request_id="call/1").headers["x-tally-hold"]
    operator = create_key(stand.runtime, org_id=None, scopes=["read"], author="me").token
    own = create_key(stand.runtime, org_id="acme", scopes=["read"], author="me").token
    with stand.client(authorization=f"Bearer {operator}") as client:
        told = client.get("/v1/find", params={"id": "call/1"})
        of_org = client.get("/v1/find", params={"id": hold, "org_id": "acme"})
        unknown = client.get("/v1/find", params={"id": "nothing"})
        far = client.get("/v1/find", params={"id": "nothing", "from": "2026-01-01"})
        key = client.get("/v1/find", params={"id": own})
    assert told.status_code == of_org.status_code == 200
    assert told.json() == find(stand.runtime, "call/1")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert ("blocks" in unknown.json()["detail"], "blocks" in far.json()["detail"]) == (False, True)
    assert (key.status_code, own in key.text) == (422, False)
    with stand.client(authorization=f"Bearer {own}") as client:
        refused = client.get("/v1/find", params={"id": "call/1"})
    assert (refused.status_code, refused.json()["code"]) == (403, "operators_only")


def test_a_call_that_outlived_its_hold_is_one_story(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant = [NOW]
    with gateway(database_url, tmp_path, monkeypatch, clock=lambda: instant[0]) as stand:
        stand.upstream.reply = Reply(body=chat_answer(), first_seconds=0.3)
        thread = threading.Thread(target=stand.post, kwargs={"x_tally_request_id": "slow"})
        thread.start()
        wait_until(lambda: len(stand.upstream.requests) == 1)
        instant[0] += timedelta(minutes=20)
        thread.join()
        wait_until(lambda: len(stand.usage()) == 1)
        expire_due(stand.runtime)
        story = one(stand, "slow")
    steps = [each["step"] for each in story["steps"]]
    assert steps[:2] == ["decision", "hold"]
    assert sorted(steps[2:]) == ["call", "expiry", "price", "usage"]
    assert (story["cost_usd"], story["charged_credits"]) == ("0.00045", "0")
