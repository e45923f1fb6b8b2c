"""Whose endpoints are whose, over HTTP and in the database; and secrets, which nobody is shown twice."""

from __future__ import annotations

import base64
import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

from billing import findings
from conftest import NOW
from journal_helpers import query, tamper
from tallystick.api.app import create_app
from tallystick.app.keys import create_key
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.app.webhook_courier import Courier
from tallystick.app.webhook_endpoints import create_endpoint, rotate_secret
from tallystick.app.webhook_secrets import make_key
from tallystick.core.errors import TallyError
from tallystick.journal.webhooks import enqueue_event
from webhook_receivers import Receiver, answer_with, receiving

URL = "https://hooks.example.com/tally?token=planted-in-a-url"


@pytest.fixture
def guarded(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    """A server that keys are needed for, and which may send to this machine."""
    settings = Settings(
        database_url=database_url, data_dir=tmp_path, require_keys=True, webhook_allow="127.0.0.1", webhook_seconds=0
    )
    with open_runtime(settings, lambda: NOW) as opened:
        yield opened


@pytest.fixture
def callers(guarded: Runtime) -> Iterator[dict[str, TestClient]]:
    """With a key of each org, an operator's, and one of an org that is for something else."""
    app = create_app(guarded)
    wanted: dict[str, tuple[str | None, list[str]]] = {
        "acme": ("acme", ["webhooks"]), "globex": ("globex", ["webhooks"]), "operator": (None, ["admin"]),
        "reader": ("acme", ["read", "authorize"]),
    }  # fmt: skip
    found = {}
    for name, (org, scopes) in wanted.items():
        token = create_key(guarded, org_id=org, scopes=scopes, author="ann").token
        found[name] = TestClient(app, headers={"Authorization": f"Bearer {token}"})
    with found["acme"]:
        yield found


def made(caller: TestClient, **asked: Any) -> dict[str, Any]:
    answer = caller.post("/v1/webhooks", json={"url": URL, "types": ["invoice.*"], **asked})
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def tell(runtime: Runtime, org: str | None = "acme", key: str = "1") -> str:
    with runtime.database.writer() as connection:
        return enqueue_event(connection, org_id=org, type="invoice.paid", key=key, data={"n": 1}, at=NOW)


def test_a_key_of_an_org_knows_its_own_endpoints_alone(callers: dict[str, TestClient], guarded: Runtime) -> None:
    acme, globex, operator, reader = (callers[name] for name in ("acme", "globex", "operator", "reader"))
    mine, theirs, all_orgs = made(acme), made(globex), made(operator)
    assert (mine["org_id"], theirs["org_id"], all_orgs["org_id"]) == ("acme", "globex", None)
    assert mine["author"].startswith("key_")
    event = tell(guarded)

    def ids(caller: TestClient, **asked: str) -> list[str]:
        return [one["endpoint_id"] for one in caller.get("/v1/webhooks", params=asked).json()["endpoints"]]

    assert ids(acme) == [mine["endpoint_id"]]
    assert len(ids(operator)) == 3
    assert ids(operator, org_id="globex") == [theirs["endpoint_id"]]
    for document in (theirs, all_orgs):
        there = f"/v1/webhooks/{document['endpoint_id']}"
        for method, path, body in (
            ("GET", there, None), ("PATCH", there, {"enabled": False}), ("DELETE", there, None),
            ("POST", f"{there}/rotate", {}), ("POST", f"{there}/test", None), ("GET", f"{there}/deliveries", None),
            ("POST", f"{there}/replay", {"event_id": event}), ("GET", f"{there}/deliveries/dlv_1", None),
        ):  # fmt: skip
            answer = acme.request(method, path, json=body)
            assert answer.status_code == 404, (method, path, answer.text)
            assert answer.json()["code"] in ("unknown_webhook", "unknown_delivery")
    assert acme.get("/v1/webhooks", params={"org_id": "globex"}).json()["code"] == "wrong_org"
    refused = acme.post("/v1/webhooks", json={"url": URL, "org_id": "globex"})
    assert (refused.status_code, refused.json()["code"]) == (403, "wrong_org")
    assert reader.get("/v1/webhooks").json()["code"] == "scope_missing"
    assert len(query(guarded, "select from webhook_endpoints where state = 'enabled'")) == 3
    # What was told of acme waits for the operator's endpoint, too: acme sees its own delivery alone.
    own = acme.get(f"/v1/webhooks/{mine['endpoint_id']}/deliveries").json()["deliveries"]
    assert [one["event_id"] for one in own] == [event]
    (other,) = operator.get(f"/v1/webhooks/{all_orgs['endpoint_id']}/deliveries").json()["deliveries"]
    answer = acme.get(f"/v1/webhooks/{mine['endpoint_id']}/deliveries/{other['delivery_id']}")
    assert answer.json()["code"] == "unknown_delivery"
    with guarded.database.org("acme") as connection:
        for table in ("endpoints", "secrets", "events", "deliveries"):
            assert connection.execute(f"select distinct org_id from webhook_{table}".encode()).fetchall() == [("acme",)]


def test_nothing_of_another_orgs_is_sent_again_to_ones_own_endpoint(
    callers: dict[str, TestClient], guarded: Runtime
) -> None:
    mine = made(callers["acme"])
    event = tell(guarded, "globex")
    for caller in ("acme", "operator"):
        answer = callers[caller].post(f"/v1/webhooks/{mine['endpoint_id']}/replay", json={"event_id": event})
        assert answer.json().get("code") == "unknown_webhook_event", caller
    assert query(guarded, "select count(*) from webhook_deliveries") == [(0,)]


def test_endpoints_are_made_changed_and_removed_over_http(callers: dict[str, TestClient], guarded: Runtime) -> None:
    acme = callers["acme"]
    for body, code in (
        ({"url": "http://hooks.example.com/"}, "webhook_address_refused"),
        ({"url": "https://10.0.0.1/"}, "webhook_address_refused"),
        ({"url": "https://a:b@hooks.example.com/"}, "invalid_webhook_url"),
        ({"url": URL, "types": ["invoice.payed"]}, "unknown_event_type"),
        ({"url": URL, "types": []}, "missing_field"),
        ({"url": URL, "what": 1}, "unknown_field"),
        ({}, "invalid_request"),
    ):
        answer = acme.post("/v1/webhooks", json=body)
        assert answer.status_code in (400, 422), answer.text
        assert answer.json()["code"] in (code, "invalid_request"), answer.text
    one = made(acme)
    there = f"/v1/webhooks/{one['endpoint_id']}"
    changed = acme.patch(there, json={"types": ["*"], "enabled": False, "reason": "moving"}).json()
    assert (changed["types"], changed["state"], changed["reason"]) == (["*"], "disabled", "moving")
    assert acme.post(f"{there}/test").json()["code"] == "webhook_disabled"
    assert acme.patch(there, json={"enabled": True}).json()["state"] == "enabled"
    (delivery,) = acme.post(f"{there}/test").json()["delivery_ids"]
    shown = acme.get(f"{there}/deliveries/{delivery}").json()
    assert (shown["type"], shown["state"], shown["data"]) == (
        "webhook.ping", "waiting", {"endpoint_id": one["endpoint_id"]},
    )  # fmt: skip
    rotated = acme.post(f"{there}/rotate", json={"overlap": "1h"}).json()
    assert rotated["secret"] != one["secret"]
    assert [each["ordinal"] for each in rotated["secrets"]] == [2, 1]
    assert acme.delete(there).json()["state"] == "removed"
    assert acme.get(there).json()["code"] == "unknown_webhook"
    assert {each["type"] for each in acme.get("/v1/webhooks/types").json()["types"]} >= {"invoice.paid"}
    for _ in range(20):
        made(acme)
    assert acme.post("/v1/webhooks", json={"url": URL}).json()["code"] == "too_many_webhooks"
    acts = [
        act for (act,) in query(guarded, "select act from administrative_acts where act like 'webhook.%%' order by n")
    ]
    assert acts[:5] == ["webhook.create", "webhook.change", "webhook.change", "webhook.rotate", "webhook.remove"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


def test_no_secret_is_ever_shown_again_or_kept_in_the_clear(
    callers: dict[str, TestClient],
    guarded: Runtime,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    acme = callers["acme"]
    one = made(acme, url=receiver.url)
    there = f"/v1/webhooks/{one['endpoint_id']}"
    secrets = [one["secret"], acme.post(f"{there}/rotate", json={}).json()["secret"]]
    receiver.answer = answer_with(500, f"you signed with {secrets[0]} and {secrets[1]}".encode())
    tell(guarded)
    Courier(guarded).deliver_all()
    said = [
        answer.text
        for answer in (
            acme.get("/v1/webhooks"), acme.get(there), acme.patch(there, json={"description": "x"}),
            acme.get(f"{there}/deliveries"), acme.get("/v1/webhooks/we_1"),
            acme.post("/v1/webhooks", json={"url": f"https://{secrets[0]}@x.example/"}),
            acme.post("/v1/webhooks", json={"url": URL, "types": [secrets[0]]}),
            acme.patch(there, json={secrets[0]: 1}), callers["operator"].get("/v1/audit"),
            acme.delete(there),
        )
    ]  # fmt: skip
    assert "answered 500" in said[3]
    assert "you signed with whsec_…" in said[3]
    tables = query(
        guarded, "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'"
    )
    stored = [str(query(guarded, f'select to_jsonb(t)::text from "{table}" as t')) for (table,) in tables]
    printed = capsys.readouterr()
    logged = [str(record.__dict__) for record in caplog.records if record.name.startswith("tallystick")]
    everything = "\n".join([*said, *stored, *logged, printed.out, printed.err, repr(rotate(guarded, one))])
    for secret in secrets:
        raw = base64.b64decode(secret.removeprefix("whsec_"))
        for form in (secret, secret.removeprefix("whsec_"), raw.hex()):
            assert form not in everything
    (acts,) = query(guarded, "select count(*) from administrative_acts where after::text like '%%planted-in%%'")
    assert acts == (0,)


def rotate(runtime: Runtime, document: dict[str, Any]) -> object:
    """What a secret that was just made looks like to whoever prints the object."""
    return create_endpoint(runtime, url=document["url"], types=["*"], author="ann", org_id="acme")


def test_secrets_are_useless_without_the_key_and_in_another_place(
    guarded: Runtime, receiver: Receiver, database_url: str
) -> None:
    one, other = (
        create_endpoint(guarded, url=receiver.url, types=["*"], author="ann", org_id="acme").endpoint.endpoint_id
        for _ in range(2)
    )
    key = guarded.settings.data_dir / "keys" / "webhooks.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    tell(guarded)
    kept = key.read_text()

    def refused() -> str:
        with pytest.raises(TallyError) as caught:
            Courier(guarded).deliver_all()
        return caught.value.code

    key.unlink()
    assert refused() == "webhook_key_missing"
    assert query(guarded, "select distinct attempts from webhook_deliveries") == [(0,)], "nothing was claimed"
    key.write_text(kept)
    key.chmod(0o644)
    assert refused() == "webhook_key_exposed"
    key.chmod(0o600)
    key.write_text("tallystick-webhooks-key:00ff")
    assert refused() == "invalid_key"
    with pytest.raises(TallyError) as there:
        make_key(guarded.settings)
    assert there.value.code == "webhook_key_there"
    key.unlink()
    make_key(guarded.settings)
    assert Courier(guarded).deliver_all() == (0, 2)
    (error,) = query(guarded, "select distinct split_part(error, '[', 2) from webhook_attempts")
    assert error == ("webhook_key_unknown]",)
    rotate_secret(guarded, one, author="ann")  # what the lost key had sealed signs no more, and harms nothing
    key.write_text(kept)
    tamper(
        database_url,
        f"update webhook_secrets set sealed = (select sealed from webhook_secrets where endpoint_id = '{one}'"
        f" and ordinal = 1) where endpoint_id = '{other}'",
    )
    tell(guarded, key="2")
    Courier(guarded).deliver_all()
    assert not receiver.requests
    assert any("webhook_secrets" in one for one in findings(guarded)), (
        "the register tells that one took another's place"
    )


def test_the_database_lets_a_tenant_add_and_change_nothing(guarded: Runtime) -> None:
    create_endpoint(guarded, url=URL, types=["*"], author="ann", org_id="acme")
    for statement in (
        "update webhook_endpoints set url = 'https://evil.example'",
        "insert into webhook_events values ('m', 'acme', 'a.b', 'k', now(), '{}', now())",
        "delete from webhook_deliveries",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), guarded.database.org("acme") as connection:
            connection.execute(statement.encode())


def test_documents_of_the_answers_are_json_as_the_commands_print_them(callers: dict[str, TestClient]) -> None:
    document = made(callers["acme"])
    assert json.loads(json.dumps(document)) == document
    assert document["secret"].startswith("whsec_")
    assert len(base64.b64decode(document["secret"][6:])) == 32
