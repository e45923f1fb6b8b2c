"""The doctor names what is not as it should be, with the next step, and looks at what it can while the rest is away."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from conftest import NOW
from invoicing import apply, event, record, subscribe
from tallystick.app import doctor_database, doctor_ledger
from tallystick.app.backup import back_up
from tallystick.app.doctor import Diagnosis, Examination, examine
from tallystick.app.keys import create_key
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.app.settings import Settings
from tallystick.app.webhook_endpoints import create_endpoint
from tallystick.core.errors import Unavailable


def levels(found: Diagnosis) -> dict[str, str]:
    return {one.name: one.level for one in found.findings}


def detail(found: Diagnosis, name: str) -> str:
    return " ".join(one.detail for one in found.findings if one.name == name)


def test_a_place_that_is_well_is_found_well(runtime: Runtime, tmp_path: Path) -> None:
    apply(runtime)
    subscribe(runtime, "globex", "resale")
    record(runtime, [event("r1")])
    seal_once(runtime, everything=True)
    back_up(runtime.settings, tmp_path.with_suffix(".tar"), clock=lambda: NOW)
    found = examine(runtime.settings, lambda: NOW)
    assert found.not_checked == ()
    worse = {one.name: one.detail for one in found.findings if one.level != "ok"}
    # The test's server writes to memory, on the machine's own clock, and its card is as old as the release.
    assert worse.keys() <= {"server", "clock", "rate_cards", "disk"}, worse
    assert set(doctor_ledger.NAMES) <= levels(found).keys()
    assert json.loads(json.dumps(found.as_dict()))["ok"] == found.count("ok")


def test_each_thing_that_is_wrong_is_named_with_a_next_step(runtime: Runtime) -> None:
    record(runtime, [event("r1", model="nobody-knows"), event("r2", "acme")])
    create_key(runtime, org_id="acme", scopes={"events"}, author="me", expires_at=NOW + timedelta(days=3))
    runtime.settings.signing_key_file = runtime.settings.data_dir / "exposed.key"
    runtime.settings.signing_key_file.write_text("x")
    runtime.settings.gateway_file = runtime.settings.data_dir / "absent.yaml"
    (runtime.settings.data_dir / "keys").mkdir(mode=0o777)
    (runtime.settings.data_dir / "keys").chmod(0o777)
    found = examine(runtime.settings, lambda: NOW + timedelta(hours=6))
    wrong = {
        "data_dir": "fail", "signing_key": "fail", "gateway": "fail", "backup": "warn", "contracts": "warn",
        "plans": "warn", "prices": "warn", "sealing": "warn", "keys": "warn", "rollups": "fail",
    }  # fmt: skip
    assert wrong.items() <= levels(found).items()
    assert all(one.next_step for one in found.findings if one.level != "ok")
    assert "acme, globex" in detail(found, "plans")
    assert found.level == "fail"


def test_while_the_database_is_away_the_rest_is_looked_at(tmp_path: Path) -> None:
    found = examine(Settings(database_url="postgresql://x@127.0.0.1:1/x", data_dir=tmp_path))
    assert levels(found)["database"] == "fail"
    assert {"data_dir", "disk", "spool", "gateway", "time_zones", "backup"} <= levels(found).keys()
    assert set(doctor_ledger.NAMES) <= set(found.not_checked)
    empty = examine(Settings(data_dir=tmp_path / "none"))
    assert levels(empty)["database"] == "fail"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"at": 3}', b'{"at": "2026-01-01"}', b"\xff", b"nul\0"])
def test_notes_that_cannot_be_read_are_findings(tmp_path: Path, text: bytes) -> None:
    for name in ("restored.json", "last-backup.json"):
        (tmp_path / name).write_bytes(text)
    found = levels(examine(Settings(database_url="postgresql://x@127.0.0.1:1/x", data_dir=tmp_path)))
    assert (found["restore"], found["backup"]) == ("warn", "warn")


def test_what_is_broken_on_this_machine_is_a_failure(tmp_path: Path) -> None:
    """A folder that is a file; a queue that is none, which may hold what was accepted; keys that others may read."""
    (tmp_path / "file").write_text("")
    assert levels(examine(Settings(data_dir=tmp_path / "file")))["data_dir"] == "fail"
    for folder, name in (("spool", "spool.sqlite"), ("settlements", "queue.sqlite"), ("keys", "webhooks.key")):
        (tmp_path / folder).mkdir(mode=0o700)
        (tmp_path / folder / name).write_bytes(b"none of ours" * 100)
    (tmp_path / "keys" / "checkpoint.key").mkdir()
    found = levels(examine(Settings(database_url="postgresql://x@127.0.0.1:1/x", data_dir=tmp_path)))
    wrong = {name: found[name] for name in ("spool", "settlements", "webhook_key", "signing_key", "database")}
    assert set(wrong.values()) == {"fail"}, wrong


def test_secrets_that_their_key_is_lost_of_are_told(runtime: Runtime) -> None:
    made = create_endpoint(runtime, url="https://hooks.example.com/", types=["*"], author="ann")
    assert levels(examine(runtime.settings, lambda: NOW))["webhook_secrets"] == "ok"
    (runtime.settings.data_dir / "keys" / "webhooks.key").unlink()
    found = examine(runtime.settings, lambda: NOW)
    assert levels(found)["webhook_secrets"] == "fail"
    assert made.endpoint.endpoint_id in detail(found, "webhook_secrets")
    assert not (runtime.settings.data_dir / "keys" / "webhooks.key").exists()


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://u:hunter2@[bad/x",
        "postgresql://u:hunter2%zz@h/x",
        "postgresql://u:hunter2@h/x?a=%zz",
        "postgresql://u:hunter2@nowhere.invalid/x",
        "host=127.0.0.1 port=1 password=hunter2",
        "postgresql://u:hun ter2@h/x",
    ],
)
def test_no_finding_has_the_databases_password(tmp_path: Path, given: str) -> None:
    told = json.dumps(examine(Settings(database_url=given, data_dir=tmp_path)).as_dict())
    assert "ter2" not in told


def test_a_schema_that_is_behind_is_told_and_left_as_it_is(empty_database_url: str, tmp_path: Path) -> None:
    found = examine(Settings(database_url=empty_database_url, data_dir=tmp_path))
    assert levels(found)["migrations"] == "fail"
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("select to_regclass('ledger_entries')").fetchone() == (None,)


def test_walls_that_were_opened_are_found(runtime: Runtime) -> None:
    with psycopg.connect(runtime.database.url) as connection:
        connection.execute("alter table ledger_entries disable row level security")
    found = examine(runtime.settings, lambda: NOW)
    assert levels(found)["walls"] == "fail"
    assert "ledger_entries" in detail(found, "walls")
    assert set(doctor_ledger.NAMES) <= set(found.not_checked)


def test_clocks_that_are_apart_are_told_by_how_far(runtime: Runtime) -> None:
    with psycopg.connect(runtime.database.url) as connection:
        ((theirs,),) = connection.execute("select clock_timestamp()").fetchall()
    for apart, level in ((0, "ok"), (20, "warn"), (-20, "warn"), (3600, "fail")):
        clock = lambda apart=apart: theirs + timedelta(seconds=apart)  # noqa: E731
        found = Examination()
        found.look("clock", lambda clock=clock: doctor_database._clock(runtime.database.url, clock))
        assert [one.level for one in found.findings] == [level]


def test_a_check_that_goes_wrong_is_a_finding_and_not_the_end() -> None:
    found = Examination()

    def away() -> list[object]:
        raise Unavailable("database_unreachable", "gone", next_step="wait")

    assert not found.look("one", away)  # type: ignore[arg-type]
    assert not found.look("two", lambda: open("/nowhere/at/all"))  # type: ignore[arg-type,return-value]  # noqa: SIM115
    assert [(one.name, one.level) for one in found.findings] == [("one", "fail"), ("two", "fail")]


@pytest.mark.parametrize("given", ["postgresql://[", "mysql://x"])
def test_an_address_that_cannot_be_read_is_a_finding(tmp_path: Path, given: str) -> None:
    assert levels(examine(Settings(database_url=given, data_dir=tmp_path)))["database"] == "fail"
