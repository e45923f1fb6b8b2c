"""Incidents and service credits over HTTP: an operator records, a customer reads what its own month comes to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from starlette.testclient import TestClient

from billing import OCTOBER, SELLER
from conftest import NOW
from invoicing import apply, subscribe
from tallystick.api.app import create_app
from tallystick.app.invoice_life import finalize_month
from tallystick.app.keys import create_key
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import Unavailable
from tallystick.journal.self_test import check_walls

PROMISE = '\nsla: {availability: [{below: "99.9", credit: "0.10"}]}\n'
INCIDENT = {
    "request_id": "i1",
    "kind": "downtime",
    "from": "2026-10-10T10:00:00Z",
    "to": "2026-10-10T11:00:00Z",
    "orgs": ["globex", "initech"],
    "reason": "a switch failed",
    "author": "ann",
}


@pytest.fixture
def guarded(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    """A server that keys are needed for, and two orgs that are promised something."""
    settings = Settings(database_url=database_url, data_dir=tmp_path, require_keys=True)
    with open_runtime(settings, lambda: NOW) as opened:
        apply(opened, SELLER + PROMISE)
        subscribe(opened, "globex")
        subscribe(opened, "initech")
        yield opened


def test_an_operator_records_and_a_customer_reads_its_own(guarded: Runtime) -> None:
    admin = create_key(guarded, org_id=None, scopes=("admin",), author="ann").token
    tenant = create_key(guarded, org_id="globex", scopes=("read", "events"), author="ann").token
    with TestClient(create_app(guarded)) as client:
        operator = {"Authorization": f"Bearer {admin}"}
        recorded = client.post("/v1/incidents", json=INCIDENT, headers=operator)
        assert recorded.status_code == 201, recorded.text
        assert recorded.json()["incident_id"] == "inc1"
        again = client.post("/v1/incidents", json=INCIDENT, headers=operator)
        assert (again.status_code, again.json()) == (200, recorded.json() | {"is_new": False})
        other = client.post("/v1/incidents", json=INCIDENT | {"reason": "another"}, headers=operator)
        assert (other.status_code, other.json()["code"]) == (409, "request_id_conflict")
        vague = client.post("/v1/incidents", json={**INCIDENT, "orgs": None, "request_id": "i2"}, headers=operator)
        assert (vague.status_code, vague.json()["code"]) == (422, "missing_field")
        withdrawal = {"request_id": "w1", "reason": "not us", "author": "ann"}
        absent = client.post("/v1/incidents/inc9/withdraw", json=withdrawal, headers=operator)
        assert (absent.status_code, absent.json()["code"]) == (404, "unknown_incident")

        client.headers["Authorization"] = f"Bearer {tenant}"
        month = client.get("/v1/orgs/globex/sla/2026-10")
        assert month.status_code == 200, month.text
        said = month.json()
        assert (said["credit_usd"], said["given_usd"], said["to_give_usd"]) == ("1.00", "0.00", "1.00")
        assert [one["incident_id"] for one in said["incidents"]] == ["inc1"]
        assert "initech" not in month.text, "whom else it concerned is nobody's business"
        assert "available for 99.865591 % of the time" in month.text
        assert client.get("/v1/orgs/initech/sla/2026-10").json()["code"] == "wrong_org"
        assert client.get("/v1/orgs/globex/sla/2026-13").json()["code"] == "invalid_month"
        assert client.get("/v1/incidents").json()["code"] == "operators_only"
        assert client.post("/v1/incidents", json=INCIDENT).json()["code"] == "scope_missing"
        assert client.post("/v1/incidents/inc1/withdraw", json=withdrawal).json()["code"] == "scope_missing"

        finalize_month(guarded, OCTOBER, ["globex"])
        said = client.get("/v1/orgs/globex/sla/2026-10").json()
        assert (said["given_usd"], said["to_give_usd"]) == ("1.00", "0.00")
        assert [one["request_id"] for one in said["given"]] == ["sla:2026-10"]
        withdrawn = client.post("/v1/incidents/inc1/withdraw", json=withdrawal, headers=operator)
        assert (withdrawn.status_code, withdrawn.json()["replaces"]) == (201, "inc1")
        listed = client.get("/v1/incidents?org_id=globex&kind=downtime", headers=operator).json()
        assert [(one["incident_id"], one["taken_back_by"]) for one in listed["incidents"]] == [("inc1", "inc2")]
        assert client.get("/v1/incidents?from=2026-10-10T11:00:00Z", headers=operator).json()["incidents"] == []


def test_a_tenants_session_sees_no_incident_and_a_policy_that_shows_them_is_found(
    guarded: Runtime, database_url: str
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into incidents values (1, 'downtime', now(), 'infinity', null, null, 'x', 'a', 'i', now())"
        )
        connection.execute("insert into sla_looks values ('globex', 'a', 1, 0), ('initech', 'b', 1, 0)")
    with guarded.database.org("globex") as connection:
        assert connection.execute("select from incidents").rowcount == 0
        assert connection.execute("select org_id from sla_looks").fetchall() == [("globex",)]
    for statement in ("insert into sla_looks values ('globex', 'a', 2, 0)", "update incidents set reason = ''"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), guarded.database.org("globex") as connection:
            connection.execute(statement.encode())
    with psycopg.connect(database_url) as connection:
        connection.execute("create policy anybody on incidents using (true)")
    with pytest.raises(Unavailable) as refused:
        check_walls(guarded.database)
    assert "drop policy anybody on incidents" in refused.value.next_step
