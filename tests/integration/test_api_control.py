"""The control plane over HTTP: from a contract file to a replayed invoice, and every refusal a problem document."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from journal_helpers import raw_event
from tallystick.api.app import create_app

CONTRACT = """\
contract: acme-ai
version: "2026-10"
effective_from: 2026-09-01T00:00:00Z
currency: USD
plans:
  pro:
    title: Pro
    base: "10"
    prices:
      tokens_in: {unit: "0.10", per: 1_000_000}
      tokens_out: {unit: "0.30", per: 1_000_000}
environments:
  staging: {charge: false}
"""
YAML = {"Content-Type": "application/yaml"}


@pytest.fixture
def client(runtime) -> Iterator[TestClient]:
    with TestClient(create_app(runtime)) as opened:
        yield opened


def event(request_id: str, **more: object) -> dict[str, object]:
    differs = {
        "time": "2026-10-05T12:00:00Z",
        "org_id": "globex",
        "model": "gpt-4o-mini",
        "meters": {"tokens_in": 10_000_000, "tokens_out": 5_000_000},
    }
    return raw_event(request_id, **{**differs, **more})


def apply(client: TestClient, text: str = CONTRACT, **query: str):
    return client.post("/v1/contracts", content=text, headers=YAML, params=query)


def subscribe(client: TestClient, org_id: str = "globex", **more: str):
    body = {"contract": "acme-ai", "plan": "pro", "effective_from": "2026-09-01T00:00:00Z", **more}
    return client.put(f"/v1/orgs/{org_id}/subscription", json=body)


@pytest.fixture
def closed(client: TestClient) -> str:
    """The id of globex's closed October: 20 M tokens in, 10 M out, and one request that is not charged."""
    assert apply(client).status_code == 201
    assert subscribe(client).status_code == 200
    events = [event("r-1"), event("r-2"), event("r-3", environment="staging")]
    assert client.post("/v1/events", json=events).status_code == 200
    answer = client.post("/v1/invoices/close", json={"month": "2026-10"})
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]["invoice_id"]


def problem(answer, status: int, code: str) -> dict:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document = answer.json()
    assert (answer.status_code, document["status"], document["code"]) == (status, status, code)
    assert document["request_id"] == answer.headers["Request-Id"]
    assert document["next_step"]
    return document


def test_a_month_goes_from_contract_to_replayed_invoice(client: TestClient, closed: str):
    shown = client.get(f"/v1/invoices/{closed}").json()
    assert shown["late_events"] == 0
    invoice = shown["invoice"]
    # 10 base, 20 M × 0.10 / 1 M, 10 M × 0.30 / 1 M
    assert [(line["meter"], line["amount_usd"]) for line in invoice["lines"]] == [
        (None, "10.00"),
        ("tokens_in", "2.00"),
        ("tokens_out", "3.00"),
    ]
    assert invoice["totals"]["total_usd"] == "15.00"
    replayed = client.post(f"/v1/invoices/{closed}/replay").json()
    assert (replayed["identical"], replayed["recomputed_digest"]) == (True, invoice["digest"])
    assert replayed["differences"] == []


def test_what_is_quoted_is_what_is_billed(client: TestClient, closed: str):
    asked = {"contract": "acme-ai", "plan": "pro", "quantities": {"tokens_in": "20000000", "tokens_out": 10_000_000}}
    quoted = client.post("/v1/quote", json=asked).json()
    invoice = client.get(f"/v1/invoices/{closed}").json()["invoice"]
    assert quoted["total_usd"] == invoice["totals"]["total_usd"]
    assert [line["amount_usd"] for line in quoted["lines"]] == [line["amount_usd"] for line in invoice["lines"]]


def test_closing_again_gives_the_same_invoice_and_late_events_are_listed_not_lost(client: TestClient, closed: str):
    client.post("/v1/events", json=event("late"))
    again = client.post("/v1/invoices/close", json={"month": "2026-10", "orgs": ["globex"]}).json()
    assert [(one["status"], one["invoice_id"]) for one in again["results"]] == [("already_closed", closed)]
    shown = client.get(f"/v1/invoices/{closed}").json()
    assert (shown["late_events"], [one["request_id"] for one in shown["late"]]) == (1, ["late"])
    assert client.post(f"/v1/invoices/{closed}/replay").json()["identical"]


def test_an_orgs_invoices_are_its_own_and_nobody_is_told_so(client: TestClient):
    apply(client)
    subscribe(client)
    client.post("/v1/events", json=[event("r-1"), event("r-1", org_id="stray")])
    place = "/v1/orgs/globex/invoices"
    assert client.get(place).json() == {"invoices": [], "next_cursor": None}
    client.post("/v1/invoices/close", json={"month": "2026-10"})
    (row,) = client.get(place, params={"month": "2026-10"}).json()["invoices"]
    assert (row["org_id"], row["month"]) == ("globex", "2026-10")
    assert client.get(place, params={"month": "2026-09"}).json()["invoices"] == []
    assert client.get("/v1/orgs/stray/invoices").json()["invoices"] == []
    for asked in ("invoices", "invoices/preview?month=2026-10"):
        answer = client.get(f"/v1/orgs/nobody/{asked}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_org")
        assert "'nobody'" in answer.json()["detail"]


def test_one_org_that_cannot_be_closed_harms_no_other(client: TestClient):
    apply(client)
    subscribe(client)
    client.post("/v1/events", json=[event("r-1"), event("r-1", org_id="stray")])
    answer = client.post("/v1/invoices/close", json={"month": "2026-10"})
    assert answer.status_code == 207
    results = {one["org_id"]: one for one in answer.json()["results"]}
    assert results["globex"]["status"] == "closed"
    assert (results["stray"]["status"], results["stray"]["error"]["code"]) == ("failed", "no_subscription")
    assert (answer.json()["closed"], answer.json()["failed"]) == (1, 1)


def test_a_month_that_runs_is_previewed_and_not_closed(client: TestClient):
    apply(client)
    subscribe(client)
    client.post("/v1/events", json=event("r-1", time="2026-11-01T08:00:00Z"))
    preview = client.get("/v1/orgs/globex/invoices/preview", params={"month": "2026-11"})
    assert preview.json()["totals"]["total_usd"] == "12.50"
    answer = client.post("/v1/invoices/close", json={"month": "2026-11"})
    assert answer.json()["results"][0]["error"]["code"] == "month_not_over"
    assert client.get("/v1/invoices").json()["invoices"] == []


def test_an_invoice_is_explained_in_sentences(client: TestClient, closed: str):
    explained = client.get(f"/v1/invoices/{closed}/explain").json()
    assert explained["invoice_id"] == closed
    assert [line["number"] for line in explained["lines"]] == [1, 2, 3]
    assert any("20,000,000" in sentence for sentence in explained["lines"][1]["sentences"])


def test_the_requests_behind_a_line_are_listed(client: TestClient, closed: str):
    behind = client.get(f"/v1/invoices/{closed}/lines/2/requests").json()
    assert [one["request_id"] for one in behind["requests"]] == ["r-1", "r-2"]
    assert behind["requests"][0]["meters"]["tokens_in"] == 10_000_000
    assert client.get(f"/v1/invoices/{closed}/lines/1/requests").json()["requests"] == []
    problem(client.get(f"/v1/invoices/{closed}/lines/9/requests"), 422, "unknown_line")


def test_every_export_says_what_it_is(client: TestClient, closed: str):
    def export(name: str):
        answer = client.get(f"/v1/invoices/{closed}/export", params={"format": name})
        assert answer.status_code == 200
        return answer.headers["content-type"].partition(";")[0], answer.text

    kind, text = export("csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert (kind, [row["request_id"] for row in rows]) == ("text/csv", ["r-1", "r-2", "r-3"])
    kind, text = export("lines-csv")
    assert (kind, len(list(csv.DictReader(io.StringIO(text))))) == ("text/csv", 3)
    kind, text = export("json")
    assert (kind, json.loads(text)["invoice_id"]) == ("application/json", closed)
    kind, text = export("text")
    assert kind == "text/plain"
    assert "15.00" in text


def test_what_requests_cost_us_can_be_left_out_for_a_customer(client: TestClient, closed: str):
    ours = client.get(f"/v1/invoices/{closed}/export", params={"format": "json"}).json()
    theirs = client.get(f"/v1/invoices/{closed}/export", params={"format": "json", "for_customer": True}).json()
    assert "internal" in ours
    assert "internal" not in theirs


def test_invoices_are_listed_page_by_page(client: TestClient):
    apply(client)
    for org_id in ("a", "b", "c"):
        subscribe(client, org_id)
        client.post("/v1/events", json=event("r-1", org_id=org_id))
    client.post("/v1/invoices/close", json={"month": "2026-10"})
    first = client.get("/v1/invoices", params={"limit": 2}).json()
    second = client.get("/v1/invoices", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    found = [one["org_id"] for one in first["invoices"] + second["invoices"]]
    assert (sorted(found), second["next_cursor"]) == (["a", "b", "c"], None)
    only = client.get("/v1/invoices", params={"org_id": "b", "month": "2026-10"}).json()["invoices"]
    assert [(one["org_id"], one["month"], one["total_usd"]) for one in only] == [("b", "2026-10", "12.50")]
    problem(client.get("/v1/invoices", params={"cursor": "inv_unknown"}), 422, "invalid_cursor")


def test_a_contract_is_applied_once_and_never_edited(client: TestClient):
    first = apply(client)
    assert first.status_code == 201
    again = apply(client, "# a comment changes nothing\n" + CONTRACT)
    assert (again.status_code, again.json()) == (200, first.json())
    problem(apply(client, CONTRACT.replace('"10"', '"11"')), 409, "contract_version_exists")
    problem(apply(client, CONTRACT.replace('"2026-10"', '"2026-09"')), 409, "contract_overlap")
    later = apply(client, CONTRACT.replace('"2026-10"', '"2026-12"'), effective_from="2026-12-01T00:00:00Z")
    assert later.json()["effective_from"] == "2026-12-01T00:00:00Z"
    listed = client.get("/v1/contracts").json()["contracts"]
    assert [one["version"] for one in listed] == ["2026-10", "2026-12"]
    shown = client.get("/v1/contracts/acme-ai", params={"version": "2026-10"}).json()
    assert shown["source_text"] == CONTRACT
    assert shown["plans"]["pro"]["title"] == "Pro"
    versions = client.get("/v1/versions").json()
    (held,), (coming,) = versions["contracts"], versions["upcoming"]
    assert (held["contract"], held["version"], held["sha256"]) == ("acme-ai", "2026-10", shown["sha256"])
    assert (coming["contract"], coming["version"]) == ("acme-ai", "2026-12")


def test_a_contract_with_errors_names_all_of_them_with_their_lines(client: TestClient):
    bad = CONTRACT.replace('unit: "0.10"', 'unit: "-1"').replace("currency: USD", "currency: EUR")
    for path in ("/v1/contracts/check", "/v1/contracts"):
        document = problem(
            client.post(path, content=bad, headers=YAML, params={"name": "my.yaml"}), 422, "invalid_contract"
        )
        assert sorted(error["where"].split(": ")[0] for error in document["errors"]) == ["my.yaml:10", "my.yaml:4"]
    assert client.get("/v1/contracts").json()["contracts"] == []


def test_a_sound_contract_is_checked_without_being_stored(client: TestClient):
    checked = client.post("/v1/contracts/check", content=CONTRACT, headers=YAML).json()
    assert (checked["contract"], checked["plans"]) == ("acme-ai", ["pro"])
    assert client.get("/v1/contracts").json()["contracts"] == []


@pytest.mark.parametrize(
    ("content", "media_type", "status", "code"),
    [
        (b"", "application/yaml", 400, "empty_body"),
        (b"\xff", "application/yaml", 400, "invalid_utf8"),
        (b"\x00", "application/yaml", 422, "invalid_contract"),
        (b"[1, 2]", "application/yaml", 422, "invalid_contract"),
        (b"{}", "application/json", 415, "unsupported_media_type"),
        (b" " * 5_000_000, "application/yaml", 413, "body_too_large"),
    ],
)
def test_a_contract_that_cannot_be_read_is_a_clear_problem(
    client: TestClient, content: bytes, media_type: str, status: int, code: str
):
    answer = client.post("/v1/contracts", content=content, headers={"Content-Type": media_type})
    problem(answer, status, code)


def test_an_org_is_put_on_a_plan_and_the_same_again_changes_nothing(client: TestClient):
    apply(client)
    first = subscribe(client, time_zone="Europe/Paris")
    assert (first.json()["time_zone"], first.json()["ordinal"]) == ("Europe/Paris", 1)
    assert subscribe(client, time_zone="Europe/Paris").json() == first.json()
    org = client.get("/v1/orgs/globex").json()
    assert (org["subscription"]["plan"], len(org["history"]), org["entries"]) == ("pro", 1, 0)
    assert [one["org_id"] for one in client.get("/v1/orgs").json()["orgs"]] == ["globex"]
    problem(subscribe(client, plan="gold"), 404, "unknown_plan")
    problem(subscribe(client, contract="nobody"), 404, "unknown_contract")
    problem(subscribe(client, time_zone="Mars/Base"), 422, "unknown_time_zone")
    problem(subscribe(client, effective_from="yesterday"), 422, "invalid_time")
    problem(subscribe(client, time_zone="UTC"), 409, "time_zone_fixed")


def test_a_model_has_dated_rates_and_an_unknown_one_has_none(client: TestClient):
    versions = client.get("/v1/rates").json()["versions"]
    assert len(versions) > 1
    newest = versions[-1]["version"]
    rates = client.get("/v1/rates/openai/gpt-4o-mini-2024-07-18", params={"at": "2026-10-01"}).json()
    assert (rates["provider"], rates["model"], rates["rate_version"]) == ("openai", "gpt-4o-mini", newest)
    prices = {rate["meter"]: (rate["price_usd"], rate["per"]) for rate in rates["rows"] if not rate["context"]}
    assert prices["tokens_in"] == ("0.15", 1_000_000)
    old = client.get("/v1/rates/openai/gpt-4o-mini", params={"version": versions[0]["version"]}).json()
    assert old["rate_version"] == versions[0]["version"]
    problem(client.get("/v1/rates/openai/gpt-99-imaginary"), 404, "unknown_model")
    problem(client.get("/v1/rates/openai/gpt-4o-mini", params={"version": "x"}), 404, "unknown_rate_version")
    problem(client.get("/v1/rates/openai/gpt-4o-mini", params={"at": "x"}), 422, "invalid_time")


def test_a_model_name_may_hold_slashes(client: TestClient):
    assert client.get("/v1/rates/openrouter/openai/gpt-4o-mini").json()["provider"] == "openrouter"


ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200},
}


def test_an_answer_of_a_provider_is_priced(client: TestClient):
    priced = client.post("/v1/cost", json=ANSWER, params={"provider": "openai", "at": "2026-10-01"}).json()
    assert priced["usage"] == {"tokens_in": 1000, "tokens_out": 200}
    assert (priced["cost_usd"], priced["status"], priced["at"]) == ("0.00027", "final", "2026-10-01T00:00:00Z")
    stream = "data: " + json.dumps({**ANSWER, "object": "chat.completion.chunk"}) + "\n\ndata: [DONE]\n\n"
    streamed = client.post("/v1/cost", content=stream, headers={"Content-Type": "text/event-stream"})
    assert streamed.json()["cost_usd"] == "0.00027"


@pytest.mark.parametrize(
    ("content", "query"),
    [(b"{}", {}), (b"[]", {}), (b'{"usage": {', {}), (b"\xff", {}), (b"{}", {"provider": "nobody"}), (b"7", {})],
)
def test_an_answer_that_cannot_be_priced_is_a_clear_problem(client: TestClient, content: bytes, query: dict):
    answer = client.post("/v1/cost", content=content, params=query, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code, answer.json()["code"])


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({"plan": "pro", "quantities": {}}, {"body.contract"}),
        (
            {"contract": "acme-ai", "plan": "pro", "quantities": {"tokens_in": 0.1}, "x": 1},
            {"body.quantities", "body.x"},
        ),
        ({"contract": 7, "plan": None, "quantities": []}, {"body.contract", "body.plan", "body.quantities"}),
        ([], {"body"}),
    ],
)
def test_a_body_of_another_shape_names_every_fault(client: TestClient, body: object, faults: set[str]):
    document = problem(client.post("/v1/quote", json=body), 422, "invalid_request")
    found = {error["where"] for error in document["errors"]}
    assert all(any(where.startswith(fault) for where in found) for fault in faults)


def test_a_quote_lists_every_unknown_at_once(client: TestClient):
    apply(client)
    asked = {"contract": "acme-ai", "plan": "gold", "quantities": {"tokens_inn": "1", "tokens_in": "one"}}
    document = problem(client.post("/v1/quote", json=asked), 422, "invalid_quote")
    assert {error["code"] for error in document["errors"]} == {"unknown_plan", "unknown_meter", "invalid_decimal"}


def test_thousands_of_faults_are_counted_and_a_hundred_are_listed(client: TestClient):
    wrong = {"month": "2026-10", "orgs": [7] * 5000}
    document = problem(client.post("/v1/invoices/close", json=wrong), 422, "invalid_request")
    assert (len(document["errors"]), document["error_count"]) == (100, 5000)
    assert len(document["detail"]) < 200


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b'{"month": "2026-10", "month": "2026-11"}', 400, "duplicate_key"),
        (b'{"month": NaN}', 400, "malformed_json"),
        (b'{"month": "2026-13"}', 422, "invalid_month"),
        (b'{"month": "2026-10", "orgs": ["a\\u0000b"]}', 422, "invalid_text"),
        (b"[" * 100_000, 400, "nested_too_deep"),
        (b'{"month": "' + b"x" * 5_000_000 + b'"}', 413, "body_too_large"),
    ],
)
def test_a_control_body_is_read_as_strictly_as_events(client: TestClient, content: bytes, status: int, code: str):
    headers = {"Content-Type": "application/json"}
    problem(client.post("/v1/invoices/close", content=content, headers=headers), status, code)


def test_a_body_without_a_json_type_is_refused(client: TestClient):
    for headers in ({}, {"Content-Type": "text/plain"}):
        answer = client.post("/v1/invoices/close", content=b'{"month": "2026-10"}', headers=headers)
        problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/invoices/inv_nothing",
        "/v1/invoices/inv_nothing/explain",
        "/v1/invoices/inv_nothing/export",
        "/v1/orgs/nobody",
        "/v1/orgs/nobody/events",
        "/v1/orgs/nobody/invoices/preview?month=2026-10",
        "/v1/contracts/nothing",
        "/v1/nothing",
        "/",
    ],
)
def test_what_does_not_exist_is_a_problem_document(client: TestClient, path: str):
    answer = client.get(path)
    problem(answer, 404, answer.json()["code"])


def test_a_wrong_method_names_the_right_ones(client: TestClient):
    answer = client.delete("/v1/events")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"


def test_a_nul_in_an_address_is_refused_before_it_reaches_the_database(client: TestClient):
    problem(client.get("/v1/orgs/a%00b"), 422, "invalid_text")
    problem(client.get("/v1/invoices?org_id=a%00b"), 422, "invalid_text")


def test_a_lost_database_is_unavailable_and_a_retry_is_invited(client: TestClient, runtime):
    runtime.database.withheld = True
    answer = client.post("/v1/events", json=event("r-1"))
    problem(answer, 503, "database_unreachable")
    assert answer.headers["Retry-After"] == "1"


def test_an_org_id_may_hold_slashes(client: TestClient):
    apply(client)
    assert subscribe(client, "eu/globex").status_code == 200
    client.post("/v1/events", json=event("r-1", org_id="eu/globex"))
    assert client.get("/v1/orgs/eu/globex").json()["org_id"] == "eu/globex"
    assert len(client.get("/v1/orgs/eu%2Fglobex/events").json()["events"]) == 1
    preview = client.get("/v1/orgs/eu/globex/invoices/preview", params={"month": "2026-10"})
    assert preview.json()["org_id"] == "eu/globex"


@pytest.mark.parametrize("path", ["/v1/rates", "/v1/versions"])
def test_a_fault_of_ours_is_a_500_without_internals_and_a_traceback_in_the_log(runtime, path: str):
    client = TestClient(create_app(runtime), raise_server_exceptions=False)
    runtime.cards = None  # something that can never happen
    with capture_logs() as lines:
        document = problem(client.get(path), 500, "internal_error")
    assert "NoneType" not in json.dumps(document)
    assert [line["event"] for line in lines] == ["unexpected_error", "request"]
    assert lines[0]["exc_info"]
