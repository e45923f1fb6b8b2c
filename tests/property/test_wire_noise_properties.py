"""Whatever comes in a header, a path, a form or the gateway's file, it is read or refused, and nothing else happens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.core.errors import BadInput, Problems
from tallystick.usage.event_problems import check_text
from tallystick.wire.config import built_in
from tallystick.wire.gateway_file import PROVIDER_KEYS, TOOL_KEYS, read_gateway
from tallystick.wire.multipart import boundary_of, read_form
from tallystick.wire.routes import route_of
from tallystick.wire.tags import FIELDS, tags_of

WHOLE = [(name, b"x") for name in FIELDS]
names = st.sampled_from([*FIELDS, b"x-tally-attribute-a", b"x-tally-attribute-", b"X-Tally-User", b"x-tally-", b"host"])


@given(given_headers=st.lists(st.tuples(names, st.binary(max_size=40) | st.just(b"a" * 600)), max_size=8))
@settings(max_examples=150)
def test_tags_are_sound_or_refused(given_headers):
    try:
        tags = tags_of(given_headers, {"feature": "f", "user_id": "u", "session_id": "s", "environment": "e"})
    except BadInput:
        return
    for text in (tags.feature, tags.user_id, tags.session_id, tags.environment, *tags.attributes, "x"):
        check_text("tag", text)


@given(
    flavor=st.sampled_from(["openai", "anthropic", "gemini"]),
    method=st.sampled_from(["GET", "POST", "PUT", "odd"]),
    path=st.text(max_size=60) | st.from_regex(r"/v1/(chat|models|files)[/:.%a-z0-9]*", fullmatch=True),
)
@settings(max_examples=150)
def test_every_path_has_a_route(flavor, method, path):
    route = route_of(flavor, method, path)
    assert route.free == (route.kind in ("count", "list"))
    assert built_in().providers[flavor].url_of("/" + path.lstrip("/")).startswith("https://")


@given(body=st.binary(max_size=300), boundary=st.text(max_size=10))
@settings(max_examples=150)
def test_noise_is_a_form_of_no_fields(body, boundary):
    form = read_form(body, boundary)
    assert sum(form.file_bytes) + sum(map(len, form.fields.values())) <= len(body) * 2


@given(
    fields=st.dictionaries(
        st.from_regex(r"[a-z\[\]_]{1,9}", fullmatch=True), st.text("ab é\n", max_size=9), max_size=4
    ),
    file=st.binary(max_size=50),
)
@settings(max_examples=150)
def test_a_forms_fields_are_read_as_they_were_written(fields, file):
    parts = [
        b'--B0z\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value.encode())
        for name, value in fields.items()
    ]
    parts.append(b'--B0z\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + file + b"\r\n--B0z--")
    form = read_form(b"".join(parts), "B0z")
    assert form.fields == fields
    assert form.file_bytes == (len(file) + 2,)
    assert not form.repeated


@pytest.mark.parametrize(
    "part",
    [
        b"content-disposition: form-data; ;" * 20_000,
        b"content-disposition: form-data" + b"; name" * 100_000 + b"\r\n\r\nx",
        b"\r\n" * 200_000,
    ],
)
@pytest.mark.timeout(10)
def test_a_form_that_was_made_to_take_long_does_not(part):
    assert read_form(b"--b\r\n" + part + b"\r\n--b--", "b").fields == {}


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ('multipart/form-data; charset=utf-8; boundary="a b;c"', "a b;c"),
        ("MULTIPART/FORM-DATA;BOUNDARY=x", "x"),
        ("multipart/form-data", None),
        ("multipart/mixed; boundary=abc", None),
        ("application/json", None),
        ("", None),
    ],
)
def test_the_boundary_is_the_headers(header, boundary):
    assert boundary_of(header) == boundary


keys = st.sampled_from([*PROVIDER_KEYS, *TOOL_KEYS, "odd"])
scalars = st.sampled_from(
    ["https://x.example", "openai", "10s", "5", "true", "async", "[GET]", "{a: {}}", "''", "~", "key", "/f", "&a", "!x"]
)
lines = st.builds(lambda key, value: f"    {key}: {value}\n", keys, scalars)


@given(
    section=st.sampled_from(["providers", "tools", "odd"]), body=st.lists(lines, max_size=8), noise=st.text(max_size=30)
)
@settings(max_examples=200)
def test_a_file_is_read_or_every_fault_has_its_line(section, body, noise):
    for text in (f"{section}:\n  one:\n{''.join(body)}", noise):
        problems: tuple[BadInput, ...] = ()
        try:
            gateway = read_gateway(text, "g.yaml")
        except Problems as error:
            problems, gateway = error.problems, built_in()
        assert all((each.where or "").startswith("g.yaml:") for each in problems)
        assert set(built_in().providers) <= set(gateway.providers)
