"""What is done to keys behind Tallystick's back: who may not, and what `tally verify` finds of it."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from conftest import NOW
from tallystick.app.keys import create_key, revoke_key
from tallystick.app.runtime import Runtime
from tallystick.app.verify import verify_ledger

HOUR = timedelta(hours=1)
TABLES = ("api_keys", "api_key_endings", "api_key_persons")

ADD_KEY = (
    "insert into api_keys (key_id, org_id, token_sha256, scopes, defaults, author, created_at)"
    " values ('key_planted0', null, sha256('mine'), '{admin}', '{}', 'mallory', now())"
)


@pytest.fixture
def keys(runtime: Runtime) -> dict[str, str]:
    """The ids of keys: one with a person, one that was revoked, and an operator's."""
    made = {
        "hers": create_key(
            runtime,
            org_id="acme",
            scopes=["gateway", "read"],
            author="ann",
            defaults={"user_id": "u1", "feature": "chat"},
            expires_at=NOW + HOUR,
        ),
        "ended": create_key(runtime, org_id="globex", scopes=["read"], author="ann"),
        "operators": create_key(runtime, org_id=None, scopes=["admin"], author="ann"),
    }
    revoke_key(runtime, made["ended"].key.key_id, reason="leaked", author="bob")
    return {name: one.key.key_id for name, one in made.items()}


@pytest.mark.parametrize(
    "tampering",
    [
        "update api_keys set scopes = '{gateway,read,events}' where key_id = '{hers}'",
        "update api_keys set org_id = 'globex' where key_id = '{hers}'",
        "update api_keys set expires_at = null where key_id = '{hers}'",
        "update api_keys set token_sha256 = sha256('mine') where key_id = '{operators}'",
        "update api_keys set defaults = '{}' where key_id = '{hers}'",
        "update api_keys set author = 'carl' where key_id = '{operators}'",
        "delete from api_keys where key_id = '{operators}'",
        "delete from api_key_endings where key_id = '{ended}'",
        "update api_key_endings set ends_at = ends_at + interval '1 year' where key_id = '{ended}'",
        "update api_key_endings set reason = 'rotated' where key_id = '{ended}'",
        "update api_key_endings set key_id = '{operators}' where key_id = '{ended}'",
        "update api_key_persons set user_id = 'u2' where key_id = '{hers}'",
        "update api_key_persons set session_id = 's' where key_id = '{hers}'",
        "delete from api_key_persons where key_id = '{hers}'",
        "insert into api_key_persons (key_id, org_id, user_id, salt)"
        " values ('{operators}', null, 'u9', decode(repeat('00', 16), 'hex'))",
        ADD_KEY,
        "insert into api_key_endings (key_id, org_id, ends_at, reason, author, recorded_at)"
        " values ('{operators}', null, now(), 'x', 'mallory', now())",
    ],
)
def test_verify_finds_what_was_done_to_keys_past_all_triggers(
    runtime: Runtime, database_url: str, keys: dict[str, str], tampering: str
) -> None:
    assert verify_ledger(runtime).findings.kept == []
    for name, key_id in keys.items():
        tampering = tampering.replace("{" + name + "}", key_id)
    with psycopg.connect(database_url) as connection:
        connection.execute("set session_replication_role = replica")
        for table in TABLES:
            connection.execute(f"alter table {table} disable trigger user".encode())
        assert connection.execute(tampering.encode()).rowcount == 1
        for table in TABLES:
            connection.execute(f"alter table {table} enable trigger user".encode())
    found = str(verify_ledger(runtime).findings.kept)
    # Of a row that is gone only its hash is left, in the register.
    assert any(told in found for told in [*keys.values(), "key_planted0", "is gone"]), found


@pytest.mark.parametrize("role", ["tallystick_app", "tallystick_writer"])
def test_only_operators_add_keys_and_an_org_sees_its_own_alone(
    database_url: str, keys: dict[str, str], role: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"set role {role}".encode())
        connection.execute("set tallystick.org = 'acme'")
        for statement in (
            ADD_KEY,
            f"insert into api_key_endings values ('{keys['hers']}', 'acme', now(), 'x', 'mallory', now())",
            f"insert into api_key_persons values ('{keys['hers']}', 'acme', 'u', null, '0123456789abcdef')",
            "select erase_person_of_keys('acme', 'u1', now())",
            *(f"{verb} {table}" for table in TABLES for verb in ("delete from", "truncate")),
            "update api_keys set scopes = '{read}'",
            "update api_key_endings set reason = ''",
            "update api_key_persons set user_id = ''",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
        if role == "tallystick_app":
            seen = connection.execute("select key_id from api_keys").fetchall()
            assert seen == [(keys["hers"],)]
            assert connection.execute("select count(*) from api_key_endings").fetchone() == (0,)
            connection.execute("set tallystick.org = 'globex'")
            assert connection.execute("select count(*) from api_key_persons").fetchone() == (0,)
            connection.execute("reset tallystick.org")
            assert connection.execute("select count(*) from api_keys").fetchone() == (0,)


def test_operators_add_keys_and_change_none(database_url: str, keys: dict[str, str]) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("set role tallystick_operator")
        for table in TABLES:
            for statement in (f"delete from {table}", f"truncate {table}", f"update {table} set org_id = 'x'"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement.encode())
