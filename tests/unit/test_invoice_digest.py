"""The hashes of an invoice are what docs/invoice.md says, computed here with nothing but the standard library."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tallystick.invoice.canonical import canonical_json
from tallystick.invoice.digest import EntriesHash, entries_sha256, internal_sha256, invoice_digest, invoice_id
from tallystick.invoice.model import Invoice, parse_invoice

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "invoice.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/invoice.md has no block of {language}"
    return found[1]


@pytest.fixture
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(block("json"))
    return loaded


def sha256(tag: str, content: bytes) -> str:
    return hashlib.sha256(f"{tag}\n".encode() + content).hexdigest()


def plain(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def entries() -> list[tuple[int, bytes]]:
    return [(int(seq), bytes.fromhex(leaf)) for seq, leaf in map(str.split, block("entries").splitlines())]


def test_the_published_example_can_be_checked_without_this_program(document: dict[str, Any]) -> None:
    content = b"".join(seq.to_bytes(8, "big") + leaf for seq, leaf in entries())
    assert document["ledger"]["entries_sha256"] == sha256("tallystick/invoice-entries/v2", content)
    (_, first), (_, second) = entries()
    assert document["ledger"]["tree_size"] == document["ledger"]["through_seq"] == 2
    assert document["ledger"]["root"] == hashlib.sha256(b"\x01" + first + second).hexdigest()
    assert (
        document["invoice_id"]
        == "inv_"
        + sha256(
            "tallystick/invoice-id/v1",
            plain([document["org_id"], document["contract"]["name"], document["period"]["label"]]),
        )[:32]
    )
    assert document["internal_sha256"] == sha256("tallystick/invoice-internal/v1", plain(document["internal"]))
    covered = {key: value for key, value in document.items() if key not in ("digest", "internal")}
    assert document["digest"] == "sha256:" + sha256("tallystick/invoice/v4", plain(covered))


def test_the_program_agrees_with_the_published_example(document: dict[str, Any]) -> None:
    assert entries_sha256(entries()) == document["ledger"]["entries_sha256"]
    assert invoice_id("globex", "acme", "2026-10") == document["invoice_id"]
    assert internal_sha256(document["internal"]) == document["internal_sha256"]
    assert invoice_digest(document) == document["digest"]
    invoice = parse_invoice(json.dumps(document))
    assert invoice.document() == document


def test_the_page_names_every_member_of_the_document() -> None:
    for name in Invoice.__struct_fields__:
        assert f"`{name}`" in PAGE


def test_any_change_of_any_member_is_another_digest(document: dict[str, Any]) -> None:
    def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if isinstance(value, dict | list):
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            return [one for key, member in pairs for one in paths(member, (*path, key))]
        return [path]

    leaves = [path for path in paths(document) if path[0] not in ("digest", "internal")]
    assert len(leaves) > 40
    for path in leaves:
        changed = json.loads(json.dumps(document))
        parent = changed
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = 7 if parent[path[-1]] is None else f"{parent[path[-1]]}0"
        assert invoice_digest(changed) != document["digest"], path
    assert internal_sha256({**document["internal"], "cost_usd": "0"}) != document["internal_sha256"]


def test_a_customer_without_the_internal_section_can_check_the_digest(document: dict[str, Any]) -> None:
    del document["internal"]
    assert invoice_digest(document) == document["digest"]


def test_entries_out_of_order_or_of_another_length_are_refused() -> None:
    running = EntriesHash()
    running.add(5, bytes(32))
    with pytest.raises(ValueError, match="entry 5 after 5"):
        running.add(5, bytes(32))
    with pytest.raises(ValueError, match="31 bytes"):
        running.add(6, bytes(31))
    with pytest.raises(ValueError, match="a block of 39 bytes"):
        running.add_block((7).to_bytes(8, "big") + bytes(31))
    with pytest.raises(ValueError, match="after entry 5"):
        running.add_block((3).to_bytes(8, "big") + bytes(32))


def test_canonical_json_has_one_form_and_no_room_for_a_float() -> None:
    assert canonical_json({"b": [1, None, True], "a": 'é\n"\\/'}) == '{"a":"é\\n\\"\\\\/","b":[1,null,true]}'.encode()
    assert canonical_json(2**53 - 1) == b"9007199254740991"
    for unfit in (1.0, {"a": 0.1}, {1: "a"}, {"ä": 1}, [b"bytes"], {"a": {1, 2}}):
        with pytest.raises(TypeError):
            canonical_json(unfit)
    with pytest.raises(ValueError, match="too large"):
        canonical_json([2**53])
