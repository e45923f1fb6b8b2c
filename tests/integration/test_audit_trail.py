"""The audit trail: an act in its own transaction, once, told by whom; nothing secret, nothing that changes unseen."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

from accounts import open_shop
from billing import findings
from conftest import NOW
from invoicing import apply, event, record
from tallystick.api.app import create_app
from tallystick.app.acting import Actor, acting
from tallystick.app.audit import Wanted, acts_csv, iterate_acts, list_acts, show_act
from tallystick.app.budgets import set_budget
from tallystick.app.erase import erase_person
from tallystick.app.grants import grant
from tallystick.app.keys import create_key, revoke_key, rotate_key
from tallystick.app.parties import set_profile
from tallystick.app.runtime import Runtime
from tallystick.app.standing import suspend
from tallystick.app.webhook_endpoints import change, create_endpoint
from tallystick.core.errors import BadInput, Conflict, NotFound, Unavailable
from tallystick.journal.audit import record_act
from tallystick.journal.self_test import check_walls
from tallystick.ledger.acts import Act

GRANT = {"request_id": "g1", "source": "goodwill", "credits": "25", "author": "ann", "reason": "=late"}


@pytest.fixture
def shop(runtime: Runtime) -> Runtime:
    open_shop(runtime, acme="wallet", globex="wallet")
    return runtime


def acts(runtime: Runtime, **wanted: Any) -> list[dict[str, Any]]:
    return list(iterate_acts(runtime, Wanted(**wanted)))


def test_an_entry_is_its_own_act_once_with_who_asked_for_it(shop: Runtime) -> None:
    with acting(Actor("key", "key_abc", "api grant_credits", "req_1")):
        grant(shop, "acme", GRANT)
    with acting(Actor("key", "key_other", "api grant_credits", "req_2")):
        assert not grant(shop, "acme", GRANT).is_new
        with pytest.raises(Conflict):
            grant(shop, "acme", {**GRANT, "credits": "26"})
        with pytest.raises(NotFound):
            grant(shop, "nobody", GRANT)
    (act,) = acts(shop, act="grant")
    who = [act[name] for name in ("actor_kind", "actor", "via", "request_id")]
    assert who == ["key", "key_abc", "api grant_credits", "req_1"]
    assert [act[name] for name in ("subject", "author", "reason")] == ["g1", "ann", "=late"]
    assert (act["org_id"], act["entry_seq"], act["after"]["amount_pico"]) == ("acme", 1, 25 * 10**12)


def test_many_who_act_at_once_leave_an_act_each_and_one_for_the_same(shop: Runtime) -> None:
    def give(number: int) -> None:
        with acting(Actor("key", f"key_{number}", "api grant_credits", f"req_{number}")):
            grant(shop, "acme" if number % 2 else "globex", {**GRANT, "request_id": f"g{number // 4}"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(give, range(32)))
    found = acts(shop, act="grant")
    assert len(found) == len({(one["org_id"], one["entry_seq"]) for one in found}) == 16
    assert all(one["actor"] == one["request_id"].replace("req", "key") for one in found)


def test_what_a_job_does_by_itself_is_nobodys_act_and_what_fails_is_none(shop: Runtime) -> None:
    with acting(Actor("job", "accounts", "serve")):
        grant(shop, "acme", GRANT)
    assert acts(shop, org_id="acme", act="grant") == []
    before = len(acts(shop))
    with pytest.raises(psycopg.errors.DivisionByZero), shop.database.operator() as connection:  # noqa: PT012
        record_act(connection, Act("key.create", "k", NOW))
        connection.execute("select 1 / 0")
    assert len(acts(shop)) == before


def test_before_and_after_are_told(shop: Runtime) -> None:
    made = create_key(shop, org_id="acme", scopes=["read"], author="ann", defaults={"user_id": "u-secret"})
    rotated = rotate_key(shop, made.key.key_id, overlap=timedelta(hours=1), author="ann")
    revoke_key(shop, rotated.key.key_id, reason="leaked", author="bob")
    revoked = acts(shop, act="key.revoke")[0]
    assert (revoked["before"]["status"], revoked["after"]["status"], revoked["reason"]) == ("active", "ended", "leaked")
    assert [one["after"]["replaces"] for one in acts(shop, act="key.rotate")] == [made.key.key_id]
    for amount in ("10", "20"):
        budget = {"per": "day", "kind": "hard", "max_usd": amount, "author": "ann"}
        set_budget(shop, "acme", "daily", budget)
    second = show_act(shop, acts(shop, act="budget")[1]["act_id"])
    assert second["before"]["budget"] != second["after"]["budget"]
    assert second["subject"] == "daily"
    suspend(shop, "acme", reason="unpaid", author="ann")
    (standing,) = acts(shop, act="standing")
    assert (standing["reason"], show_act(shop, standing["act_id"])["before"]) == ("unpaid", None)


def test_nothing_secret_and_nobody_who_can_be_erased_is_in_it(shop: Runtime) -> None:
    made = create_key(shop, org_id="acme", scopes=["read"], author="ann", defaults={"user_id": "u-personal"})
    set_profile(shop, "acme", {"name": "Personal Name", "email": "p@personal.example", "author": "ann"})
    record(shop, [event("r1", "acme", user_id="u-personal")])
    erase_person(shop, "acme", "u-personal")
    text = json.dumps(acts(shop))
    secret = made.token.rpartition("_")[2]
    assert not [word for word in (secret, "ersonal") if word in text.replace("personal data", "")]
    (erased,) = acts(shop, act="person.erase")
    assert erased["after"] == {"entries": 1, "keys": 1, "billing_profiles": []}


def test_another_path_at_the_same_host_is_seen_and_not_shown(shop: Runtime) -> None:
    made = create_endpoint(shop, url="https://hooks.example.com/token-1", types=["*"], author="ann")
    change(shop, made.endpoint.endpoint_id, url="https://hooks.example.com/token-2", author="ann")
    (act,) = acts(shop, act="webhook.change")
    assert act["before"]["host"] == act["after"]["host"] == "hooks.example.com"
    assert act["before"] != act["after"]
    assert "token" not in json.dumps(acts(shop))


def test_the_list_goes_page_by_page_and_asks_for_what_it_is_asked(shop: Runtime) -> None:
    for number in range(5):
        grant(shop, "acme", {**GRANT, "request_id": f"g{number}"})
    create_key(shop, org_id="globex", scopes=["read"], author="ann")
    whole = acts(shop)
    pages, cursor = [], None
    while True:
        page, cursor = list_acts(shop, Wanted(), cursor=cursor, limit=3)
        pages += page
        if cursor is None:
            break
    assert pages == whole
    assert [one["subject"] for one in acts(shop, org_id="acme", act="grant")] == ["g1", "g2", "g3", "g4", "g5"]
    assert len(acts(shop, actor="ann")) == 6
    assert {one["act"] for one in acts(shop, act="key")} == {"key.create"}
    assert (
        acts(shop, act="ke") == acts(shop, begin=NOW + timedelta(1)) == acts(shop, until=NOW - timedelta(days=1)) == []
    )
    assert len(acts(shop, begin=NOW, until=NOW + timedelta(1), subject="g3")) == 1
    for raw in ("x", "0", "999999", "-1", "٣"):
        with pytest.raises(BadInput):
            list_acts(shop, Wanted(), cursor=raw)
        with pytest.raises(NotFound):
            show_act(shop, raw)
    with pytest.raises(BadInput):
        list_acts(shop, Wanted(begin=NOW, until=NOW))


def test_a_spreadsheet_takes_none_of_it_for_a_formula(shop: Runtime) -> None:
    grant(shop, "acme", {**GRANT, "author": "=cmd|' /C calc'!A0", "reason": "+1"})
    (row,) = [one for one in csv.DictReader(acts_csv(iter(acts(shop)))) if one["act"] == "grant"]
    assert (row["author"][0], row["reason"][0]) == ("'", "'")
    assert json.loads(row["after"])["entry"] == "g1"


@pytest.fixture
def client(shop: Runtime) -> Iterator[TestClient]:
    with TestClient(create_app(shop)) as opened:
        yield opened


def test_it_is_read_over_http_by_operators_only(shop: Runtime, client: TestClient) -> None:
    client.post("/v1/orgs/acme/grants", json=GRANT, headers={"Request-Id": "my-request"})
    (act,) = client.get("/v1/audit", params={"org_id": "acme", "act": "grant"}).json()["acts"]
    assert (act["actor_kind"], act["via"], act["request_id"]) == ("anyone", "api grant_credits", "my-request")
    assert client.get(f"/v1/audit/{act['act_id']}").json() == act
    assert client.get("/v1/audit/77777777").json()["code"] == "unknown_act"
    assert client.get("/v1/audit", params={"from": "soon"}).status_code == 422
    tenant = create_key(shop, org_id="acme", scopes=["read"], author="ann")
    refused = client.get("/v1/audit", headers={"Authorization": f"Bearer {tenant.token}"})
    assert (refused.status_code, refused.json()["code"]) == (403, "operators_only")


def test_an_act_that_was_changed_taken_away_or_put_there_is_found(shop: Runtime) -> None:
    grant(shop, "acme", GRANT)
    create_key(shop, org_id="acme", scopes=["read"], author="ann")
    assert findings(shop) == []
    with psycopg.connect(shop.database.url, autocommit=True) as owner:
        with pytest.raises(psycopg.errors.RestrictViolation):
            owner.execute("update administrative_acts set actor = 'nobody'")
        owner.execute("alter table administrative_acts disable trigger all")
        owner.execute("update administrative_acts set actor = 'nobody' where act = 'grant'")
        owner.execute("delete from administrative_acts where act = 'key.create'")
        owner.execute(
            "insert into administrative_acts (at, act, subject, actor_kind, actor, via)"
            " values (now(), 'key.revoke', 'k', 'os_user', 'ann', 'tally keys revoke')"
        )
    found = [one for one in findings(shop) if "administrative_acts" in one]
    assert len(found) == 4  # two that are no more as they were registered, and two that are not in the register
    with pytest.raises(Unavailable, match="administrative_acts"):
        check_walls(shop.database)


def test_a_tenants_session_sees_its_own_orgs_acts(shop: Runtime) -> None:
    apply(shop)
    grant(shop, "acme", GRANT)
    create_key(shop, org_id="globex", scopes=["read"], author="ann")
    with shop.database.org("acme") as connection:
        seen = connection.execute("select distinct org_id from administrative_acts").fetchall()
    assert seen == [("acme",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege), shop.database.org("acme") as connection:
        record_act(connection, Act("key.create", "k", NOW, "globex"))
