"""Keys, purely: what a token looks like and is kept as, when a key is taken, and what it is refused for."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import BadInput, Forbidden, Unauthorized
from tallystick.core.instants import parse_duration
from tallystick.core.key_shapes import without_secrets
from tallystick.ledger.api_key import (
    RANDOM_BYTES,
    SCOPES,
    TOKEN_CHARS,
    Key,
    is_token,
    new_token,
    person_sha256,
    token_sha256,
)

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLANTED = new_token(bytes(range(40)))[0]
KEY = Key(
    key_id="key_k3J9xQ2m",
    org_id="acme",
    scopes=frozenset({"read", "events"}),
    defaults={},
    expires_at=None,
    author="ann",
)


def changed(**changes: object) -> Key:
    return msgspec.structs.replace(KEY, **changes)


@given(st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES))
def test_a_token_has_one_form_and_names_its_key(random: bytes) -> None:
    token, key_id = new_token(random)
    assert is_token(token)
    assert len(token) == TOKEN_CHARS == 55
    assert token[:11] == "tk_" + key_id.removeprefix("key_")
    assert token_sha256(token) == hashlib.sha256(token.encode()).digest()


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_every_bit_of_the_secret_is_in_the_token(one: bytes, other: bytes) -> None:
    tokens = {new_token(bytes(8) + secret)[0] for secret in (one, other)}
    assert len(tokens) == len({one, other})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tk_",
        "sk-proj-abc",
        "tk_aaaaaaaa_" + "b" * 42,
        "tk_aaaaaaaa_" + "b" * 44,
        "tk_aaaaaaaa_" + "b" * 42 + "-",
        "tk_aaaaaaaa_" + "b" * 42 + "\n",
        "tk_aaaaaaaa_" + "b" * 42 + "é",
        "xk_aaaaaaaa_" + "b" * 43,
    ],
)
def test_what_is_no_token_is_not_taken_for_one(text: str) -> None:
    assert not is_token(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"/v1/orgs/{PLANTED}/wallet", f"/v1/orgs/{PLANTED[:11]}_…/wallet"),
        (f"two: {PLANTED},{PLANTED[:30]}", f"two: {PLANTED[:11]}_…,{PLANTED[:11]}_…"),
        (f"x{PLANTED}", f"x{PLANTED[:11]}_…"),
        ("/v1/orgs/tk_acme", "/v1/orgs/tk_acme"),
        ("", ""),
    ],
)
def test_what_is_logged_has_no_more_of_a_token_than_its_public_part(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (changed(expires_at=NOW), "key_expired"),
        (changed(expires_at=NOW - HOUR), "key_expired"),
        (changed(ends_at=NOW), "key_revoked"),
        (changed(ends_at=NOW - HOUR, expires_at=NOW - HOUR), "key_revoked"),
        (changed(ends_at=NOW + HOUR, is_ended=True), "key_revoked"),  # whoever ended it has a clock ahead of ours
        (changed(expires_at=NOW + HOUR), None),
        (changed(ends_at=NOW + HOUR), None),
        (KEY, None),
    ],
)
def test_a_key_is_taken_until_the_first_of_its_ends(key: Key, code: str | None) -> None:
    assert key.is_taken(NOW) == (code is None)
    if code is None:
        key.require_taken(NOW)
        return
    with pytest.raises(Unauthorized) as caught:
        key.require_taken(NOW)
    assert (caught.value.code, caught.value.status) == (code, 401)


def test_a_key_is_for_its_scopes_and_an_admins_for_all_but_what_is_charged_to_an_org() -> None:
    assert [scope for scope in SCOPES if KEY.may(scope)] == ["events", "read"]
    with pytest.raises(Forbidden) as caught:
        KEY.require("admin")
    assert (caught.value.code, caught.value.status) == ("scope_missing", 403)
    admin = changed(org_id=None, scopes=frozenset({"admin"}))
    assert [scope for scope in SCOPES if admin.may(scope)] == [
        "authorize",
        "events",
        "read",
        "webhooks",
        "disputes",
        "admin",
    ]


@pytest.mark.parametrize("org_id", ["globex", "", None, "acme ", "ACME", 7])
def test_a_key_of_an_org_is_for_no_other(org_id: object) -> None:
    KEY.require_org("acme")
    changed(org_id=None).require_org(org_id)
    with pytest.raises(Forbidden) as caught:
        KEY.require_org(org_id)
    assert caught.value.code == "wrong_org"
    assert "acme" not in caught.value.detail


def test_whom_a_key_stands_for_cannot_be_told_from_what_is_kept_without_the_salt() -> None:
    salts = [bytes(16), b"1" * 16]
    found = {person_sha256(salt, user_id="u1", session_id=None) for salt in salts}
    found |= {
        person_sha256(salts[0], user_id=None, session_id="u1"),
        person_sha256(salts[0], user_id="u1", session_id=""),
    }
    assert len(found) == 4


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("15m", 900), ("24h", 86_400), ("2d", 172_800), ("1w", 604_800)]
)
def test_durations_are_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "h", "24", "-1h", "1.5h", "24 h", "01h", "1y", "9999999h", "999999w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_duration(text, where="--overlap")
    assert (caught.value.code, caught.value.where) == ("invalid_duration", "--overlap")
