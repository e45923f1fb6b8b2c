"""`/readyz` says whether events are taken and how, and names what is not as it should be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

from accounts import asked, give, open_shop
from conftest import NOW
from fault_tools import Proxy, fill, small_disk
from journal_helpers import raw_event
from tallystick.api.app import create_app
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(database_url) as opened:
        yield opened


@contextmanager
def served(proxy: Proxy, folder: Path, mode: str, **more: Any) -> Iterator[tuple[Runtime, TestClient]]:
    settings = Settings(database_url=proxy.url, data_dir=folder, when_database_away=mode, **more)
    with open_runtime(settings, lambda: NOW) as runtime, TestClient(create_app(runtime)) as client:
        yield runtime, client


def look(client: TestClient) -> tuple[int, str, bool]:
    answer = client.get("/readyz")
    document = answer.json()
    assert document["ready"] == (answer.status_code == 200)
    return answer.status_code, document["mode"], document["degraded"]


def check(client: TestClient, name: str) -> dict[str, Any]:
    (found,) = (one for one in client.get("/readyz").json()["checks"] if one["name"] == name)
    return found


def eventually(true: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def test_all_is_well(proxy: Proxy, tmp_path: Path) -> None:
    with served(proxy, tmp_path, "refuse") as (_, client):
        assert client.post("/v1/events", json=raw_event()).status_code == 201
        assert look(client) == (200, "normal", False)
        names = [one["name"] for one in client.get("/readyz").json()["checks"]]
        writers = ["writer", "operations"]
        assert names == [
            "database",
            "migrations",
            "rate_cards",
            *writers,
            "spool",
            "settlements",
            "keys",
            "disk",
            "sealing",
            "rollups",
            "jobs",
            "holds",
            "prices",
        ]
        writer = check(client, "writer")["figures"]
        assert (writer["queue_events"], writer["queue_events_max"], writer["events_written"]) == (0, 50_000, 1)
        assert 0 <= writer["last_commit_age_seconds"] < 60
        assert check(client, "disk")["figures"]["free_bytes"] > 0
        assert client.get("/healthz").json() == {"status": "ok"}


def test_whether_changes_to_keys_are_heard_of_is_shown_and_keeps_nothing_from_being_taken(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(proxy, tmp_path, "refuse") as (runtime, client):
        eventually(lambda: runtime.keys.is_heard)
        assert "are heard of at once" in check(client, "keys")["detail"]

        def refused(role: str) -> None:
            raise psycopg.OperationalError("FATAL: sorry, too many clients already")

        monkeypatch.setattr(runtime.database, "connect", refused)
        with psycopg.connect(runtime.settings.database_url or "", autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and query = 'select 1' and pid <> pg_backend_pid()"
            )
        eventually(lambda: "too many clients" in str(check(client, "keys")["figures"]["last_error"]))
        found = check(client, "keys")
        assert not found["ok"]
        assert "each key is asked of the database" in found["detail"]
        assert look(client) == (200, "normal", True)
        monkeypatch.undo()
        eventually(lambda: look(client) == (200, "normal", False))


def test_the_queue_of_decisions_is_looked_at_as_that_of_events_is(proxy: Proxy, tmp_path: Path) -> None:
    with served(proxy, tmp_path, "spool") as (runtime, client):
        open_shop(runtime, acme="wallet")
        give(runtime, "20")
        assert client.post("/v1/authorize", json=asked("a1")).status_code == 200
        found = check(client, "operations")
        assert found["ok"]
        assert "0 of at most 50,000 operations wait" in found["detail"]
        figures = found["figures"]
        assert (figures["queue_operations"], figures["queue_operations_max"], figures["operations_written"]) == (
            0,
            50_000,
            2,
        )
        assert 0 <= figures["last_commit_age_seconds"] < 60

        proxy.stop()
        refused = client.post("/v1/authorize", json=asked("a2"))
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unreachable")
        found = check(client, "operations")
        assert not found["ok"]
        assert "cannot be written to" in found["detail"]
        assert look(client) == (200, "spooling", True)  # events are taken meanwhile
        proxy.start()
        eventually(lambda: look(client) == (200, "normal", False))
        assert check(client, "operations")["figures"]["last_error"] is not None
        assert client.post("/v1/authorize", json=asked("a2")).status_code == 200


def test_without_a_spool_a_database_that_is_away_means_refusing(proxy: Proxy, tmp_path: Path) -> None:
    with served(proxy, tmp_path, "refuse") as (_, client):
        proxy.stop()
        answer = client.post("/v1/events", json=raw_event())
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unreachable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert look(client) == (503, "refusing", True)
        eventually(lambda: not check(client, "keys")["ok"])  # whoever listens asks twice a second
        assert [one["name"] for one in client.get("/readyz").json()["checks"] if not one["ok"]] == [
            "database",
            "migrations",
            "writer",
            "keys",
        ]
        assert client.get("/healthz").status_code == 200
        proxy.start()
        eventually(lambda: look(client) == (200, "normal", False))
        assert client.post("/v1/events", json=raw_event()).status_code == 201


def test_with_a_spool_events_are_taken_meanwhile_and_how_many_wait_is_told(proxy: Proxy, tmp_path: Path) -> None:
    with served(proxy, tmp_path, "spool") as (_, client):
        assert look(client) == (200, "normal", False)
        proxy.stop()
        alone = client.post("/v1/events", json=raw_event("r1"))
        assert alone.status_code == 202
        (result,) = alone.json()["results"]
        assert (result["status"], "seq" in result, alone.json()["spooled"]) == ("spooled", False, 1)
        batch = client.post("/v1/events", json=[raw_event("r1"), raw_event("r2"), raw_event("r2")])
        assert (batch.status_code, [one["status"] for one in batch.json()["results"]]) == (202, ["spooled"] * 3)
        mixed = client.post("/v1/events", json=[raw_event("r3"), raw_event("r1", user_id="else"), {"org_id": "acme"}])
        assert mixed.status_code == 207
        assert [one["status"] for one in mixed.json()["results"]] == ["spooled", "conflict", "rejected"]
        conflict = client.post("/v1/events", json=raw_event("r1", user_id="somebody else"))
        assert (conflict.status_code, conflict.json()["code"]) == (409, "request_id_conflict")
        assert look(client) == (200, "spooling", True)
        spool = check(client, "spool")
        assert spool["ok"]
        assert spool["figures"] == {
            "waiting": 3,
            "waiting_max": 1_000_000,
            "oldest": "2026-11-02T12:00:00Z",
            "refused": 0,
        }
        proxy.start()
        eventually(lambda: look(client) == (200, "normal", False))
        again = client.post("/v1/events", json=[raw_event("r1"), raw_event("r2"), raw_event("r3")])
        assert [one["status"] for one in again.json()["results"]] == ["duplicate"] * 3


def test_a_full_spool_means_refusing(proxy: Proxy, tmp_path: Path) -> None:
    with served(proxy, tmp_path, "spool", spool_events_max=1) as (_, client):
        proxy.stop()
        assert client.post("/v1/events", json=raw_event("r1")).status_code == 202
        answer = client.post("/v1/events", json=raw_event("r2"))
        assert (answer.status_code, answer.json()["code"]) == (429, "spool_full")
        assert answer.headers["Retry-After"] == "10"
        assert look(client) == (503, "refusing", True)
        proxy.start()
        eventually(lambda: look(client) == (200, "normal", False))


def test_what_the_ledger_refused_degrades_until_it_is_seen_to(proxy: Proxy, tmp_path: Path) -> None:
    with served(proxy, tmp_path, "spool") as (runtime, client):
        client.post("/v1/events", json=raw_event("r1"))
        proxy.stop()
        client.post("/v1/events", json=raw_event("r1", user_id="somebody else"))
        proxy.start()
        eventually(lambda: check(client, "spool")["figures"]["refused"] == 1)
        eventually(lambda: look(client) == (200, "normal", True))
        with closing(runtime.open_spool()) as spool:
            (refused,) = spool.refused()
            assert spool.dismiss(refused.org_id, refused.request_id) == 1
        assert look(client) == (200, "normal", False)


def test_a_full_disk_means_refusing_where_events_need_it(proxy: Proxy) -> None:
    with small_disk(100) as folder, served(proxy, folder, "spool") as (_, client):
        assert look(client) == (200, "normal", False)
        ballast = fill(folder)
        assert look(client) == (503, "refusing", True)
        assert not check(client, "disk")["ok"]
        proxy.stop()
        answer = client.post("/v1/events", json=raw_event("r1"))
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_full")
        ballast.unlink()
        eventually(lambda: look(client) == (200, "spooling", True))
        assert client.post("/v1/events", json=raw_event("r1")).status_code == 202
