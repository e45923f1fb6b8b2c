"""The statements that are signed: their exact bytes, and that nothing else passes for them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from tallystick.ledger.merkle import leaf_hash, node_hash
from tallystick.ledger.statements import (
    BlockStatement,
    OrgStatement,
    orgs_root,
    parse_block_statement,
    parse_org_statement,
)

ORG = OrgStatement("acme", 1, 9, bytes(range(32)))
BLOCK = BlockStatement(3, 9, b"f" * 32, b"m" * 32, 2, b"o" * 32, datetime(2026, 11, 2, 12, 0, 0, 5, tzinfo=UTC))
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def test_an_org_statement_has_the_documented_bytes() -> None:
    assert (
        ORG.encode()
        == b'{"first_seq":1,"last_seq":9,"org_id":"acme","root":"' + bytes(range(32)).hex().encode() + b'"}'
    )


def test_a_block_statement_has_the_documented_bytes() -> None:
    assert BLOCK.encode().decode() == (
        '{"block":3,"entries":9,"file_sha256":"' + b"f".hex() * 32 + '","merkle_root":"' + b"m".hex() * 32
        + '","orgs":2,"orgs_root":"' + b"o".hex() * 32 + '","sealed_at":"2026-11-02T12:00:00.000005Z"}'
    )  # fmt: skip
    assert parse_block_statement(BLOCK.encode()) == BLOCK


@given(texts, st.integers(1, 2**53 - 1), st.integers(0, 1000), st.binary(min_size=32, max_size=32))
def test_statements_are_canonical_json_and_read_back(org_id: str, first: int, more: int, root: bytes) -> None:
    statement = OrgStatement(org_id, first, first + more, root)
    members = {"org_id": org_id, "first_seq": first, "last_seq": first + more, "root": root.hex()}
    if first + more < 2**53:
        assert statement.encode() == rfc8785.dumps(members)
    assert parse_org_statement(statement.encode()) == statement


def test_the_orgs_root_is_over_the_statements_in_the_order_of_the_ids() -> None:
    other = OrgStatement("Zeta", 1, 1, bytes(32))
    assert orgs_root([ORG, other]) == node_hash(leaf_hash(other.encode()), leaf_hash(ORG.encode()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{", "{ "),
        ('"first_seq":1', '"first_seq":1.0'),
        ('"first_seq":1', '"first_seq":true'),
        ('"first_seq":1', '"first_seq":0'),
        ('"last_seq":9', '"last_seq":0'),
        ('"acme"', "7"),
        ('"acme"', '"\\u0061cme"'),
        ('"acme"', '"\\ud800"'),
        ("}", ',"z":1}'),
        ("0f", "0F"),
        ('"org_id":"acme",', ""),
    ],
)
def test_what_only_resembles_an_org_statement_is_refused(old: str, new: str) -> None:
    text = ORG.encode().decode()
    assert old in text
    with pytest.raises(ValueError, match="statement"):
        parse_org_statement(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("T12:00:00.000005Z", "T12:00:00.000005+00:00"),
        ('"block":3', '"block":0'),
        ('"entries":9', '"entries":"9"'),
        ('"sealed_at"', '"sealed"'),
        (":3,", ":3, "),
    ],
)
def test_what_only_resembles_a_block_statement_is_refused(old: str, new: str) -> None:
    text = BLOCK.encode().decode()
    assert old in text
    with pytest.raises(ValueError, match="statement"):
        parse_block_statement(text.replace(old, new))


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "{"])
def test_other_json_is_no_statement(text: str) -> None:
    for parse in (parse_org_statement, parse_block_statement):
        with pytest.raises(ValueError, match="statement"):
            parse(text)
