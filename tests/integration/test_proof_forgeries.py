"""Proofs made by somebody who wants to be believed: what is not vouched for is not valid, and garbage is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from invoicing import apply, event, record, subscribe
from tallystick.app.close_month import close_month
from tallystick.app.proof_files import check_file
from tallystick.app.proofs import proof_pieces
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.app.signing import find_checkpoint, known_keys, rotate_signing_key
from tallystick.core.errors import BadInput
from tallystick.invoice.proof import check_proof, read_proof
from tallystick.ledger.checkpoint import Checkpoint, read_checkpoint, sign_checkpoint
from tallystick.ledger.merkle import Frontier, leaf_hash
from tallystick.ledger.notes import SigningKey

DEEP = b"[" * 100_000 + b"]" * 100_000


def close(runtime: Runtime, org_id: str) -> str:
    (result,) = close_month(runtime, "2026-10", [org_id])
    assert result.invoice is not None, result.error
    return result.invoice.invoice_id


def prove(runtime: Runtime, invoice_id: str) -> bytes:
    return b"".join(proof_pieces(runtime, invoice_id))


@pytest.fixture
def genuine(runtime: Runtime) -> tuple[Runtime, bytes]:
    """The proof of an invoice of three requests, sealed in the first block."""
    apply(runtime)
    subscribe(runtime, "globex")
    record(runtime, [event(f"r{number}") for number in range(3)])
    invoice_id = close(runtime, "globex")
    seal_once(runtime, everything=True)
    return runtime, prove(runtime, invoice_id)


def test_unpriced_requests_without_a_line_or_with_free_ones_alone_can_be_proved(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    unknown: list[dict[str, int]] = [{}, {"tokens_in": 0}, {"pages_reviewed": 3}, {"tokens_in": 3, "pages_reviewed": 1}]
    record(runtime, [event(f"r{at}", meters=meters, model="unheard-of") for at, meters in enumerate(unknown)])
    invoice_id = close(runtime, "globex")
    seal_once(runtime, everything=True)
    report = check_proof(read_proof(prove(runtime, invoice_id)))
    assert (report.problems, report.events) == ([], 4)


def test_an_invoice_without_entries_is_not_vouched_for_by_any_key(runtime: Runtime) -> None:
    """Nothing in it is signed: anyone could have written it."""
    apply(runtime)
    subscribe(runtime, "globex")
    record(runtime, [event("a1", "acme")])
    invoice_id = close(runtime, "globex")
    seal_once(runtime, everything=True)
    proof = read_proof(prove(runtime, invoice_id))
    assert check_proof(proof).valid
    for trust in ({"keys": known_keys(runtime)}, {"kept": find_checkpoint(runtime).note}):
        report = check_proof(proof, **trust)  # type: ignore[arg-type]
        assert not report.valid
        assert "nothing in the proof is signed" in report.problems[0]


def test_a_block_that_a_stranger_adds_to_the_log_is_not_trusted_through_an_old_checkpoint(
    genuine: tuple[Runtime, bytes],
) -> None:
    """With the checkpoint of one block, whose root is that block's hash, anyone can make a log of two."""
    runtime, data = genuine
    kept = find_checkpoint(runtime).note
    known, _ = read_checkpoint(kept, None)
    stranger = SigningKey(known.origin, bytes(32))
    forged: dict[str, Any] = json.loads(data)
    evidence = forged["evidence"]
    evidence["block_statement"] = evidence["block_statement"].replace('"block":1', '"block":2')
    added = leaf_hash(evidence["block_statement"].encode())
    grown = Checkpoint(known.origin, 2, Frontier([known.root, added]).root())
    evidence["checkpoint"] = sign_checkpoint(grown, stranger)
    evidence |= {"key": str(stranger.public), "log_path": [known.root.hex()], "earlier": {"1": [added.hex()]}}
    proof = read_proof(json.dumps(forged).encode())
    assert check_proof(proof).trusted_by is None  # without anything to compare with it holds together, and no more
    report = check_proof(proof, kept=kept)
    assert not report.valid
    assert "signed with another key" in report.problems[0]
    assert not check_proof(proof, keys=known_keys(runtime)).valid


def test_a_new_key_is_trusted_when_it_is_given_with_an_old_checkpoint(genuine: tuple[Runtime, bytes]) -> None:
    runtime, _ = genuine
    kept, old = find_checkpoint(runtime).note, known_keys(runtime)
    new = rotate_signing_key(runtime).public
    subscribe(runtime, "acme")
    record(runtime, [event("a1", "acme")])
    invoice_id = close(runtime, "acme")
    seal_once(runtime, everything=True)
    proof = read_proof(prove(runtime, invoice_id))
    assert not check_proof(proof, kept=kept).valid
    report = check_proof(proof, kept=kept, keys=[*old, new])
    assert (report.problems, report.trusted_by) == ([], "key")


def test_a_log_signs_for_itself_alone(genuine: tuple[Runtime, bytes]) -> None:
    _, data = genuine
    forged: dict[str, Any] = json.loads(data)
    stated, _ = read_checkpoint(forged["evidence"]["checkpoint"], None)
    other = SigningKey("example.com/other", bytes(32))
    forged["evidence"] |= {"checkpoint": other.sign(stated.text()), "key": str(other.public)}
    report = check_proof(read_proof(json.dumps(forged).encode()), keys=[other.public])
    assert not report.valid
    assert "a log signs for itself" in report.problems[0]


HOSTILE = [
    (b'"invoice": {', b'"invoice": {"totals": {"total_usd": "1"}}, "invoice": {'),
    (b'"totals":{', b'"totals":{"total_usd":"1","exact_total_usd":"1","residue_usd":"0"},"totals":{'),
    (b'"seq":1,', b'"seq":9,"seq":1,'),
    (b'"left":', b'"left":[],"left":'),
    (b'"entries": [', b'"entries": [],"entries": ['),
    (b'"entries": [', b'"entries": [' + DEEP + b","),
    (b'"invoice": {', b'"invoice": ' + DEEP + b',"invoice": {'),
    (b'"meters":{', b'"meters":' + DEEP + b',"meters":{'),
    (b'"total_usd":"10.00"', b'"total_usd":"1e999999999"'),
    (b'"total_usd":"10.00"', b'"total_usd":"1e-999999999"'),
    (b'"total_usd":"10.00"', b'"total_usd":"10/1"'),
    (b'"total_usd":"10.00"', b'"total_usd":"' + b"9" * 5000 + b'"'),
]


def test_members_named_twice_deep_nesting_and_endless_numbers_are_refused(genuine: tuple[Runtime, bytes]) -> None:
    _, data = genuine
    assert holds(data)
    for before, after in HOSTILE:
        assert before in data
        assert not holds(data.replace(before, after, 1)), (before, after[:40])


def holds(data: bytes) -> bool:
    try:
        return check_proof(read_proof(data)).valid
    except BadInput:
        return False


def test_a_file_that_unpacks_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    file = tmp_path / "proof.json.gz"
    file.write_bytes(gzip.compress(b" " * (64 << 20)))
    with pytest.raises(BadInput) as caught:
        check_file(file)
    assert caught.value.code == "file_too_large"


def test_what_is_no_checkpoint_is_not_held_against_the_invoice(genuine: tuple[Runtime, bytes]) -> None:
    _, data = genuine
    with pytest.raises(BadInput) as caught:
        check_proof(read_proof(data), kept="no checkpoint")
    assert caught.value.code == "invalid_note"
