"""A key in a text that would be stored is refused, by the fast way and by the slow one, and not repeated."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import NOW
from journal_helpers import raw_event
from tallystick.core.errors import BadInput
from tallystick.core.key_shapes import holds_key, line_without_secrets, without_secrets
from tallystick.ledger.api_key import RANDOM_BYTES, new_token
from tallystick.ledger.request_checks import authorize_operation
from tallystick.usage.batch_checks import check_events
from tallystick.usage.checks import check_event, sound_event
from tallystick.usage.meters import METERS
from tallystick.wire.tags import tags_of

FIELDS = (
    *("org_id", "request_id", "user_id", "session_id", "feature", "environment", "model", "provider"),
    *("api_key_id", "action", "attributes", "attribute_name", "price_context"),
)
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
words = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=20)
ours = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES).map(lambda random: new_token(random)[0])
providers = st.one_of(
    # What is drawn at random is no word: it has a part without a break, and digits.
    st.tuples(
        st.sampled_from(["sk-proj-", "sk-ant-api03-", "sk-or-v1-"]),
        st.text(BASE62 + "_-", min_size=10, max_size=60),
        st.text(BASE62, min_size=20),
    ),
    st.tuples(st.just("sk-"), st.text(BASE62, min_size=30, max_size=40), st.sampled_from("0123456789")),
    st.tuples(st.just("gsk_"), st.text(BASE62, min_size=40, max_size=40), st.text("0123456789", min_size=12)),
    st.tuples(st.just("AIza"), st.text(BASE62 + "_-", min_size=35, max_size=35)),
).map("".join)


def planted(field: str, text: str) -> dict[str, Any]:
    if field == "attributes":
        return raw_event(attributes={"note": text})
    if field == "attribute_name":
        return raw_event(attributes={text: "x"})
    if field == "price_context":
        return raw_event(price_context={"service_tier": text})
    return raw_event(**{field: text})


@given(st.sampled_from(FIELDS), words, st.one_of(ours, providers.map(lambda key: f" {key}")), words)
def test_no_event_with_a_key_in_it_is_taken(field: str, before: str, key: str, after: str) -> None:
    raw = planted(field, f"{before}{key}{after}")
    assert sound_event(raw, now=NOW, known_meters=METERS) is None
    with pytest.raises(BadInput) as caught:
        check_event(raw, now=NOW, known_meters=METERS)
    assert caught.value.code == "key_in_text"
    assert key.strip() not in f"{caught.value.as_dict()} {caught.value}"
    batch = [raw_event(f"r{number}") for number in range(6)]
    among = check_events([*batch, raw, *batch], now=NOW, known_meters=METERS)
    assert [getattr(one, "code", None) for one in among] == [None] * 6 + ["key_in_text"] + [None] * 6


@given(ours)
def test_no_request_to_authorize_has_one(token: str) -> None:
    shared = {"org_id": "acme", "request_id": "a", "user_id": "u", "session_id": "s", "feature": "f"}
    for more in ({"work_key": token}, {"api_key_id": token}, {"attributes": {"a": token}}, {"model": token}):
        raw = {**shared, "environment": "e", "action": "a", **more}
        with pytest.raises(BadInput) as caught:
            authorize_operation(raw, salt=bytes(16), known_meters=METERS, now=NOW, worst_cost=lambda _: 0)
        assert caught.value.code == "key_in_text"
        assert token not in str(caught.value.as_dict())


@given(ours)
def test_no_tag_of_a_call_has_one(token: str) -> None:
    tags = {"feature": "f", "user_id": "u", "session_id": "s", "environment": "e"}
    for name in ("user", "session", "feature", "environment", "action", "work-key", "request-id", "attribute-a"):
        with pytest.raises(BadInput) as caught:
            tags_of([(b"x-tally-" + name.encode(), token.encode())], tags)
        assert caught.value.code == "key_in_text"
        assert token not in str(caught.value.as_dict())


@given(words, ours, words)
def test_a_line_shows_no_more_of_a_key_than_what_it_is_called(before: str, token: str, after: str) -> None:
    text = f"{before} {token} {after}"
    assert token not in without_secrets(text)
    assert token[:11] in without_secrets(text)
    assert line_without_secrets(text.encode()) == without_secrets(text).encode()


@given(words, st.sampled_from(["\n", "\t", "\x85", " ", '"']), st.one_of(ours, providers))
def test_nor_does_a_line_of_json_or_an_address_where_a_space_is_written_otherwise(
    before: str, space: str, key: str
) -> None:
    secret = key[12:]
    for line in (json.dumps(before + space + key), quote(before + space + key), json.dumps(json.dumps(space + key))):
        assert holds_key(line)
        assert secret not in without_secrets(line)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "task-force-of-many-long-names-and-more",
            "sk-550e8400-e29b-41d4-a716-446655440000",
            "sk-SK-bratislava-region-1",
            "sk-admin-dashboard-overview",
            "sk-or-other-words-of-a-sentence",
            "sk-proj-review-of-the-year-2026",
            "sk-internationalizationmodule",
            "stk_checkout_transactionhistory",
            "task-proj-550e8400-e29b-41d4-a716-446655440000",
        ),
        *("tk_acme_2026", "key_oBh2MLAy", "disk-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "gpt-4o", "AIza", "sk-"),
    ],
)
def test_names_that_only_begin_like_a_key_are_taken(text: str) -> None:
    assert not holds_key(text)
    for field in FIELDS:
        raw = planted(field, text)
        assert check_event(raw, now=NOW, known_meters=METERS) == sound_event(raw, now=NOW, known_meters=METERS)
        assert (
            check_events([raw] * 6, now=NOW, known_meters=METERS)
            == [check_event(raw, now=NOW, known_meters=METERS)] * 6
        )
