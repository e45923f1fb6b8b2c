"""The tags of a call: from its headers, filled up from its key, and every fault named."""

from __future__ import annotations

import pytest

from tallystick.core.errors import BadInput, Problems
from tallystick.usage import event_problems
from tallystick.wire.tags import MANDATORY, REQUEST_ID_CHARS_MAX, Tags, tags_of

WHOLE = {
    "x-tally-feature": "chat",
    "x-tally-user": "u1",
    "x-tally-session": "s1",
    "x-tally-environment": "production",
}


def headers(**changes):
    named = {**WHOLE, **{"x-tally-" + name.replace("_", "-"): value for name, value in changes.items()}}
    raw = {name: value if isinstance(value, bytes) else str(value).encode() for name, value in named.items()}
    return [
        (b"host", b"x"),
        (b"authorization", b"Bearer tk_x"),
        *((name.encode(), value) for name, value in raw.items()),
    ]


def fault_of(given, defaults=None):
    with pytest.raises(BadInput) as caught:
        tags_of(given, defaults or {})
    return caught.value


def test_the_headers_of_a_call_become_its_tags():
    tags = tags_of(headers(action="brief", work_key="doc-1", request_id="r1", attribute_team="blue"))
    assert tags == Tags(
        feature="chat",
        user_id="u1",
        session_id="s1",
        environment="production",
        action="brief",
        work_key="doc-1",
        request_id="r1",
        attributes={"team": "blue"},
    )


def test_what_the_call_does_not_say_is_the_keys():
    defaults = {"feature": "all", "user_id": "robot", "session_id": "none", "environment": "staging", "action": "brief"}
    given = [(b"x-tally-feature", b"chat"), (b"x-tally-user", b" ")]
    tags = tags_of(given, defaults)
    assert (tags.feature, tags.user_id, tags.session_id) == ("chat", "robot", "none")
    assert (tags.environment, tags.action) == ("staging", "brief")


def test_all_that_is_missing_is_named_together():
    error = fault_of([(b"x-tally-user", b"u")])
    assert error.code == "missing_tags"
    assert error.where == "x-tally-feature, x-tally-session, x-tally-environment"


def test_a_misspelled_header_is_pointed_out_where_its_tag_is_missing():
    given = [(b"x-tally-featrue", b"chat"), *headers()[3:]]
    error = fault_of(given)
    assert error.where == "x-tally-feature"
    assert "x-tally-featrue" in error.detail


def test_the_key_of_a_caller_is_no_misspelling():
    error = fault_of([(b"x-tally-key", b"tk_secret")])
    assert "tk_secret" not in str(error)
    assert "x-tally-key" not in error.detail


@pytest.mark.parametrize(
    ("change", "code", "where"),
    [
        ({"user": "x" * 513}, "text_too_long", "x-tally-user"),
        ({"user": b"a\x00b"}, "invalid_text", "x-tally-user"),
        ({"user": b"\xff\xfe"}, "invalid_text", "x-tally-user"),
        ({"request_id": "x" * (REQUEST_ID_CHARS_MAX + 1)}, "text_too_long", "x-tally-request-id"),
        ({"request_id": "job-7~2"}, "reserved_request_id", "x-tally-request-id"),
        ({"attribute_team": b"a\x01"}, "invalid_text", "x-tally-attribute-team"),
        ({f"attribute_n{n}": "x" for n in range(65)}, "too_many_attributes", "x-tally-attribute-*"),
    ],
)
def test_each_fault_has_its_code_and_its_header(change, code, where):
    error = fault_of(headers(**change))
    assert (error.code, error.where) == (code, where)


def test_several_faults_are_told_together():
    error = fault_of([(b"x-tally-user", b"x" * 600), (b"x-tally-feature", b"f"), (b"x-tally-request-id", b"a~1")])
    assert isinstance(error, Problems)
    assert error.code == "invalid_tags"
    assert [each.code for each in error.problems] == ["missing_tags", "text_too_long", "reserved_request_id"]


def test_a_header_that_is_there_twice_must_say_the_same():
    assert tags_of([*headers(), (b"x-tally-user", b"u1")]).user_id == "u1"
    assert fault_of([*headers(), (b"x-tally-user", b"u2")]).code == "duplicate_tag"


def test_names_of_headers_have_no_case_and_values_are_utf8():
    given = [(name.upper(), value) for name, value in headers(user="Zoë".encode())]
    assert tags_of(given).user_id == "Zoë"


def test_unknown_headers_are_let_through():
    assert tags_of(headers(something_new="x")).feature == "chat"


def test_what_is_mandatory_is_what_an_event_needs():
    filled_in = {"org_id", "request_id", "time", "model", "meters"}
    assert set(MANDATORY) == set(event_problems.MANDATORY) - filled_in
