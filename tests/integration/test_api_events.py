"""`POST /v1/events` against a real ledger: each event answered for itself, nothing half-taken, nothing a 500."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from journal_helpers import raw_event
from tallystick.api.app import create_app


@pytest.fixture
def client(runtime) -> Iterator[TestClient]:
    with TestClient(create_app(runtime)) as opened:
        yield opened


def event(request_id: str = "r-1", **more: object) -> dict[str, object]:
    differs = {"time": "2026-10-01T12:00:00Z", "model": "gpt-4o-mini", "meters": {"tokens_in": 1000, "tokens_out": 200}}
    return raw_event(request_id, **{**differs, **more})


def cloudevent(request_id: str) -> dict[str, object]:
    data = {name: value for name, value in event().items() if name != "request_id"}
    return {"specversion": "1.0", "id": request_id, "source": "/gateway", "type": "usage", "data": data}


def post(client: TestClient, body: bytes | str, media_type: str, **headers: str):
    return client.post("/v1/events", content=body, headers={"Content-Type": media_type, **headers})


def lines(*events: object) -> str:
    return "\n".join(json.dumps(one) for one in events)


def statuses(answer) -> list[str]:
    return [result["status"] for result in answer.json()["results"]]


def stored(client: TestClient, org_id: str = "acme") -> list[dict]:
    return client.get(f"/v1/orgs/{org_id}/events").json().get("events", [])


def test_one_event_is_created_then_found_again_then_conflicts(client: TestClient):
    created = client.post("/v1/events", json=event())
    assert created.status_code == 201
    receipt = created.json()["results"][0]
    assert (receipt["status"], receipt["seq"], receipt["cost_usd"], receipt["cost_status"]) == (
        "accepted",
        1,
        "0.00027",  # 1000 × 0.15 / 10^6 + 200 × 0.60 / 10^6
        "final",
    )
    again = client.post("/v1/events", json=event())
    assert again.status_code == 200
    assert again.json()["results"][0] == {**receipt, "status": "duplicate"}
    conflict = client.post("/v1/events", json=event(latency_ms=7))
    assert (conflict.status_code, conflict.headers["content-type"]) == (409, "application/problem+json")
    problem = conflict.json()
    assert problem["code"] == "request_id_conflict"
    assert problem["stored_fingerprint"] == receipt["fingerprint"] != problem["fingerprint"]
    assert [one["latency_ms"] for one in stored(client)] == [None]


def test_one_bad_event_is_a_problem_document_with_every_fault(client: TestClient):
    bad = event(meters={"tokens_in": -1, "tokens_inn": 2}, outcome="great", nonsense=1)
    del bad["feature"]
    answer = client.post("/v1/events", json=bad)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_event")
    assert {(error["where"], error["code"]) for error in answer.json()["errors"]} == {
        ("feature", "missing_field"),
        ("nonsense", "unknown_field"),
        ("outcome", "not_a_choice"),
        ("meters.tokens_in", "quantity_negative"),
        ("meters.tokens_inn", "unknown_meter"),
    }
    assert client.get("/v1/orgs/acme/events").status_code == 404


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (json.dumps([event("a"), event("b")]), "application/json"),
        (json.dumps([event("a"), event("b")]), "application/json; charset=utf-8"),
        (lines(event("a"), event("b")), "application/x-ndjson"),
        (lines(event("a"), event("b")) + "\n", "application/jsonl"),
        (json.dumps([cloudevent("a"), cloudevent("b")]), "application/cloudevents-batch+json"),
    ],
)
def test_every_form_of_a_batch_records_the_same_events(client: TestClient, body: str, media_type: str):
    answer = post(client, body, media_type)
    assert (answer.status_code, statuses(answer)) == (200, ["accepted", "accepted"])
    counts = {name: answer.json()[name] for name in ("accepted", "duplicate", "conflict", "rejected")}
    assert counts == {"accepted": 2, "duplicate": 0, "conflict": 0, "rejected": 0}
    assert [(one["request_id"], one["cost_usd"]) for one in stored(client)] == [("a", "0.00027"), ("b", "0.00027")]


def test_one_cloudevent_is_recorded_like_one_event(client: TestClient):
    answer = post(client, json.dumps(cloudevent("a")), "application/cloudevents+json")
    assert (answer.status_code, statuses(answer)) == (201, ["accepted"])


def test_in_a_mixed_batch_each_event_gets_its_own_answer_and_the_good_are_stored(client: TestClient):
    client.post("/v1/events", json=[event("old"), event("other")])
    body = [event("new"), event("old"), event("other", latency_ms=1), event("bad", meters={"tokens_in": 10**30}), 7]
    answer = client.post("/v1/events", json=body)
    assert answer.status_code == 207
    assert statuses(answer) == ["accepted", "duplicate", "conflict", "rejected", "rejected"]
    results = answer.json()["results"]
    assert [result["index"] for result in results] == [0, 1, 2, 3, 4]
    assert results[2]["fingerprint"] != results[2]["stored_fingerprint"]
    assert (results[3]["request_id"], results[3]["field"], results[3]["code"]) == (
        "bad",
        "meters.tokens_in",
        "quantity_too_large",
    )
    assert results[3]["next_step"]
    assert results[4]["code"] == "not_an_object"
    assert [one["request_id"] for one in stored(client)] == ["old", "other", "new"]


def test_a_line_that_is_not_json_is_one_rejected_result_with_its_line(client: TestClient):
    body = json.dumps(event("a")) + '\n{"org_id": \n\n' + json.dumps(event("b")) + '\n{"x": NaN}\n'
    answer = post(client, body, "application/jsonl")
    assert (answer.status_code, statuses(answer)) == (207, ["accepted", "rejected", "accepted", "rejected"])
    assert [result["line"] for result in answer.json()["results"]] == [1, 2, 4, 5]
    assert answer.json()["results"][1]["code"] == "malformed_json"


def test_a_broken_item_of_an_array_leaves_its_neighbours_whole(client: TestClient):
    twice = json.dumps(event("b"))[:-1] + ', "org_id": "globex"}'
    surrogate = json.dumps(event("c", feature="\ud800"))
    body = "[" + ",".join([json.dumps(event("a")), twice, surrogate, json.dumps(event("d"))]) + "]"
    answer = post(client, body, "application/json")
    assert statuses(answer) == ["accepted", "rejected", "rejected", "accepted"]
    assert [result.get("code") for result in answer.json()["results"]] == [None, "duplicate_key", "invalid_text", None]
    assert [one["request_id"] for one in stored(client)] == ["a", "d"]


@pytest.mark.parametrize(
    ("body", "media_type", "status", "code"),
    [
        (b"", "application/json", 400, "empty_body"),
        (b"\n\n", "application/jsonl", 400, "empty_body"),
        (b'{"org_id": ', "application/json", 400, "malformed_json"),
        (b'[{"org_id": 1},]', "application/json", 400, "malformed_json"),
        (b"\xff\xfe{}", "application/json", 400, "invalid_utf8"),
        (b'{"a":' * 20_000, "application/json", 400, "nested_too_deep"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"{}", "application/json; charset=latin-1", 415, "unsupported_media_type"),
        (b"{}", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"null", "application/json", 422, "not_an_object"),
        (b'"text"', "application/json", 422, "not_an_object"),
        (b"{}", "application/cloudevents-batch+json", 422, "wrong_type"),
        (b"{}", "application/cloudevents+json", 422, "invalid_cloudevent"),
    ],
)
def test_a_bad_body_is_a_clear_problem_and_never_a_500(
    client: TestClient, body: bytes, media_type: str, status: int, code: str
):
    answer = post(client, body, media_type)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    document = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["request_id"] == answer.headers["Request-Id"]
    assert document["status"] == status
    assert document["detail"]
    assert document["next_step"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"time": "2036-10-01T00:00:00Z"}, "time_in_future"),
        ({"time": "1970-01-01T00:00:00Z"}, "time_too_old"),
        ({"time": "2026-10-01T00:00:00"}, "invalid_time"),
        ({"time": 1764500000}, "invalid_time"),
        ({"meters": {"tokens_in": 1.0}}, "wrong_type"),
        ({"meters": {"tokens_in": True}}, "wrong_type"),
        ({"meters": {"tokens_in": "1"}}, "wrong_type"),
        ({"meters": []}, "wrong_type"),
        ({"model": ""}, "empty_text"),
        ({"user_id": "a\x00b"}, "invalid_text"),
        ({"session_id": "x" * 513}, "text_too_long"),
        ({"outcome": None}, "wrong_type"),
        ({"attributes": {"a": {"b": 1}}}, "wrong_type"),
    ],
)
def test_a_value_that_cannot_be_stored_names_its_field(client: TestClient, more: dict, code: str):
    answer = client.post("/v1/events", json=event(**more))
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["where"].startswith(next(iter(more)))


def test_an_event_of_thousands_of_faults_is_answered_with_the_first_of_them(client: TestClient):
    answer = client.post("/v1/events", json=event(meters={f"tokens_{number}": 1 for number in range(20_000)}))
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 50)


def test_too_many_events_and_too_many_bytes_are_refused_whole(client: TestClient, runtime):
    runtime.settings.batch_events_max = 2
    runtime.settings.body_bytes_max = 3000
    many = client.post("/v1/events", json=[event("a"), event("b"), event("c")])
    assert (many.status_code, many.json()["code"]) == (413, "too_many_events")
    large = client.post("/v1/events", json=[event("a", attributes={"x": "y" * 3000})])
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    packed = post(client, gzip.compress(b" " * 5000), "application/json", **{"Content-Encoding": "gzip"})
    assert (packed.status_code, packed.json()["code"]) == (413, "body_too_large")
    assert client.get("/v1/orgs/acme/events").status_code == 404


def test_a_packed_body_is_unpacked(client: TestClient):
    body = gzip.compress(json.dumps([event("a"), event("b")]).encode())
    answer = post(client, body, "application/json", **{"Content-Encoding": "gzip"})
    assert statuses(answer) == ["accepted", "accepted"]


def test_an_unknown_model_is_stored_and_unpriced_never_zero(client: TestClient):
    answer = client.post("/v1/events", json=event(model="gpt-99-imaginary"))
    receipt = answer.json()["results"][0]
    assert (answer.status_code, receipt["cost_usd"], receipt["cost_status"]) == (201, None, "unpriced")
    assert "gpt-99-imaginary" in receipt["reason"]


def test_the_same_events_from_many_callers_at_once_are_stored_once(client: TestClient):
    body = [event(f"r-{number}") for number in range(50)]
    answers = []

    def send() -> None:
        answers.append(client.post("/v1/events", json=body))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["accepted"] for answer in answers) == 50
    seqs = {tuple(result["seq"] for result in answer.json()["results"]) for answer in answers}
    assert len(seqs) == 1, "every caller is told the same place of each event"
    assert sorted(seqs.pop()) == list(range(1, 51))


def test_events_are_listed_page_by_page_without_a_gap_or_a_repeat(client: TestClient):
    client.post("/v1/events", json=[event(f"r-{number}") for number in range(7)])
    seen: list[int] = []
    cursor = None
    while True:
        query = {"limit": 3, **({} if cursor is None else {"cursor": cursor})}
        page = client.get("/v1/orgs/acme/events", params=query).json()
        seen += [one["seq"] for one in page["events"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        client.post("/v1/events", json=event(f"late-{cursor}"))
    assert seen == list(range(1, 10))


def test_a_listed_event_has_the_fact_its_lines_and_their_sum(client: TestClient):
    client.post("/v1/events", json=event(attributes={"document": "7"}, latency_ms=12))
    (one,) = stored(client)
    assert one["meters"] == {"tokens_in": 1000, "tokens_out": 200}
    assert (one["attributes"], one["latency_ms"], one["outcome"]) == ({"document": "7"}, 12, "success")
    assert [(line["meter"], line["rate_usd"], line["per"], line["amount_usd"]) for line in one["lines"]] == [
        ("tokens_in", "0.15", 1_000_000, "0.00015"),
        ("tokens_out", "0.6", 1_000_000, "0.00012"),
    ]
    assert (one["cost_usd"], one["correction"]) == ("0.00027", None)


@pytest.mark.parametrize("query", ["cursor=x", "cursor=-1", "cursor=" + "9" * 30, "limit=0", "limit=1001", "limit=x"])
def test_a_bad_page_is_refused(client: TestClient, query: str):
    client.post("/v1/events", json=event())
    assert client.get(f"/v1/orgs/acme/events?{query}").status_code == 422
