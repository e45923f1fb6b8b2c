"""Keys: what they may not is an exception of its own, usage waits for a key that may, and no secret leaves a trace."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tally_processes import run_tally
from tallystick_sdk import AsyncTally, Forbidden, Tally, Unauthorized

USAGE = {"provider": "openai", "model": "gpt-4o-mini", "meters": {"tokens_in": 1000, "tokens_out": 200}}


class Key(NamedTuple):
    key_id: str
    token: str


def tally_command(shop: Any, *arguments: str) -> str:
    environment = {"TALLY_DATA_DIR": str(shop.folder), "PATH": "/usr/bin:/bin", "HOME": str(shop.folder)}
    done = run_tally("keys", *arguments, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def key(shop: Any, org: Any) -> Key:
    made = json.loads(
        tally_command(
            shop, "create", "--org", org.org_id, "--scopes", "authorize,events,read", "--author", "dana", "--json"
        )
    )
    token = made.get("token") or made["key"]["token"]
    return Key(f"key_{token[3:11]}", token)


def tags_of(org_id: str) -> dict[str, str]:
    return {"org_id": org_id, "user_id": "u", "session_id": "s", "feature": "f", "environment": "production"}


def test_a_key_of_an_org_does_all_that_the_library_does_for_it_and_nothing_for_others(
    key: Key, org: Any, shop: Any, tmp_path: Path
) -> None:
    other = shop.new_org()
    with Tally(key.token, org.url, spool=tmp_path / "one.sqlite", **tags_of(org.org_id)) as tally:
        with tally.billable("tailor"):
            tally.record(USAGE)
        assert tally.wallet().available == Decimal(95)
        assert tally.limits().plan == tally.actions().plan == "wallet"
        with pytest.raises(Forbidden) as wrong:
            tally.wallet(other.org_id)
        assert (wrong.value.code, wrong.value.status) == ("wrong_org", 403)
        tally.record(USAGE, org_id=other.org_id, request_id="theirs")
        tally.record(USAGE, request_id="mine").wait(5)
        assert not tally.flush(20)
        assert (tally.stats().waiting, tally.stats().refused) == (1, 0)
        assert len(org.ledger()) == 2
    # Whoever may send it does, from the same spool.
    with Tally(base_url=org.url, spool=tmp_path / "one.sqlite", **tags_of(org.org_id)) as operator:
        assert operator.flush()
    assert [one["request_id"] for one in other.ledger()] == ["theirs"]


def test_usage_waits_while_the_key_is_revoked_and_no_trace_of_it_is_left(
    key: Key, org: Any, shop: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    spool = tmp_path / "one.sqlite"
    tally = Tally(key.token, org.url, spool=spool, **tags_of(org.org_id))
    assert tally.wallet().available == Decimal(100)
    tally_command(shop, "revoke", key.key_id, "--reason", "a test", "--author", "dana")
    with pytest.raises(Unauthorized) as revoked:
        tally.authorize("tailor")
    assert (revoked.value.code, revoked.value.status) == ("key_revoked", 401)
    tally.record(USAGE, request_id="r-1").wait(5)
    assert not tally.flush(0.5)
    tally.close(0)
    seen = caplog.text + repr(tally) + str(revoked.value) + repr(vars(revoked.value))
    assert key.token not in seen
    assert key.token[12:] not in seen
    assert all(key.token[12:].encode() not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert key.token[12:] not in "".join(shop.lines)
    with Tally(base_url=org.url, spool=spool) as later:
        assert later.flush()
    assert [one["request_id"] for one in org.ledger()] == ["r-1"]


def test_the_key_comes_from_the_environment_too(key: Key, org: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_API_KEY", key.token[:-1] + ("x" if key.token[-1] != "x" else "y"))
    with pytest.raises(Unauthorized, match="key_unknown"):
        Tally(base_url=org.url, spool=False).wallet(org.org_id)
    monkeypatch.setenv("TALLY_API_KEY", key.token)
    assert Tally(base_url=org.url, spool=False).wallet(org.org_id).available == Decimal(100)
    assert AsyncTally(base_url=org.url, spool=False).default_tags == {}
