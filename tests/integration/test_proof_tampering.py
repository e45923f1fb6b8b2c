"""Whatever is changed in a proof, it no longer holds, unless what was changed means nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples import examples
from sealed_ledger import furnish
from tallystick.app.proofs import proof_pieces
from tallystick.app.runtime import Runtime
from tallystick.app.signing import known_keys
from tallystick.core.errors import TallyError
from tallystick.invoice.proof import check_proof, read_proof
from tallystick.ledger.notes import PublicKey

Path = tuple[str | int, ...]


def without_meaning(path: Path) -> bool:
    """The contract files' names, their comments, and proofs for checkpoints that nobody has given."""
    return (path[:1] == ("contracts",) and len(path) == 3) or path[:2] == ("evidence", "earlier")


@pytest.fixture
def proof(runtime: Runtime) -> tuple[bytes, PublicKey]:
    """A small proof with a correction, an entry before the period, other orgs, and blocks before and after."""
    invoice_id = furnish(runtime)
    data = b"".join(proof_pieces(runtime, invoice_id))
    (key,) = known_keys(runtime)
    assert holds(data, key)
    return data, key


def holds(data: bytes, key: PublicKey) -> bool:
    try:
        return check_proof(read_proof(data), keys=[key]).valid
    except TallyError:
        return False


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a JSON value."""
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from places(member, (*path, key))


def changed(value: Any, data: st.DataObject) -> Any:
    """Another value than this one."""
    if isinstance(value, bool) or value is None:
        return data.draw(st.sampled_from([0, "", [], not value]))
    if isinstance(value, int):
        return data.draw(st.sampled_from([value + 1, value - 1, -value - 1, str(value), None]))
    if isinstance(value, str):
        if not value:
            return "x"
        place = data.draw(st.integers(0, len(value) - 1))
        other = data.draw(st.sampled_from("0123456789abcdefZ\n ").filter(lambda one: one != value[place]))
        choices = [value[:place] + other + value[place + 1 :], value[:place] + value[place + 1 :], value + other, None]
        return data.draw(st.sampled_from(choices))
    if isinstance(value, list):
        if len(value) < 2:
            return data.draw(st.sampled_from([None, [*value, *value, "more"]]))
        place = data.draw(st.integers(0, len(value) - 2))
        swapped = [*value[:place], value[place + 1], value[place], *value[place + 2 :]]
        return data.draw(
            st.sampled_from(
                [value[:-1], value[1:], value[:place] + value[place + 1 :], [*value, value[place]], swapped]
            )
        )
    if not value:
        return {"more": 1}
    key = data.draw(st.sampled_from(sorted(value)))
    return data.draw(
        st.sampled_from([{k: v for k, v in value.items() if k != key}, {**value, "more": 1}, {**value, key: None}])
    )


@settings(max_examples=examples(50), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_member_of_a_proof_can_be_changed(proof: tuple[bytes, PublicKey], data: st.DataObject) -> None:
    document = json.loads(proof[0])
    path = data.draw(st.sampled_from([one for one in places(document) if not without_meaning(one)]))
    if not path:
        return
    forged = copy.deepcopy(document)
    at = forged
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = changed(at[path[-1]], data)
    if forged == document:
        return
    assert not holds(json.dumps(forged).encode(), proof[1]), f"{path} was changed unseen"


@settings(max_examples=examples(50), suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 10**9), change=st.integers(1, 255))
def test_no_byte_of_a_proof_can_be_changed(proof: tuple[bytes, PublicKey], place: int, change: int) -> None:
    forged = bytearray(proof[0])
    forged[place % len(forged)] ^= change
    if not holds(bytes(forged), proof[1]):
        return
    before, after = json.loads(proof[0]), json.loads(bytes(forged))
    for one in (before, after):
        one["contracts"] = None  # contents are pinned by their hashes; names and comments are nobody's concern
        one["evidence"]["earlier"] = None
    assert before == after


def test_entries_cannot_be_exchanged_left_out_or_added(proof: tuple[bytes, PublicKey]) -> None:
    document = json.loads(proof[0])
    entries = document["entries"]
    for place in range(len(entries)):
        for forged in (
            entries[:place] + entries[place + 1 :],
            [*entries[:place], entries[place], *entries[place:]],
            [*entries[:place], entries[(place + 1) % len(entries)], *entries[place + 1 :]],
        ):
            assert not holds(json.dumps({**document, "entries": forged}).encode(), proof[1])


def test_a_proof_laid_out_otherwise_is_the_same_proof(proof: tuple[bytes, PublicKey]) -> None:
    assert holds(json.dumps(json.loads(proof[0]), indent=2, sort_keys=True).encode(), proof[1])
