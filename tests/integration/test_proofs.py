"""A proof of an invoice says by itself, to anyone, that the invoice is right; a ledger that was sealed can give it."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from invoicing import apply, event, record, subscribe
from tallystick.app.close_month import close_month
from tallystick.app.proof_files import check_file, write_proof
from tallystick.app.proofs import proof_pieces
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.app.signing import find_checkpoint, known_keys, rotate_signing_key
from tallystick.core.errors import BadInput, Conflict
from tallystick.invoice.proof import check_proof, read_proof

ORG = "globex"


def use(runtime: Runtime, count: int, begin: int = 0, org_id: str = ORG, **more: object) -> None:
    record(runtime, [event(f"{org_id}-{number}", org_id, **more) for number in range(begin, begin + count)])


def close(runtime: Runtime) -> str:
    (result,) = close_month(runtime, "2026-10", [ORG])
    assert result.invoice is not None, result.error
    return result.invoice.invoice_id


@pytest.fixture
def closed(runtime: Runtime) -> tuple[Runtime, str]:
    """An org with entries before, in and after October, its October closed and sealed among another org's entries."""
    apply(runtime)
    subscribe(runtime, ORG, "resale")
    use(runtime, 5, time=datetime(2026, 9, 20, tzinfo=UTC))
    use(runtime, 7, 5)
    use(runtime, 3, org_id="acme")
    seal_once(runtime, everything=True)
    use(runtime, 4, 12, time=datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC))
    use(runtime, 2, 16, time=datetime(2026, 11, 1, tzinfo=UTC))
    use(runtime, 1, 18, time=datetime(2026, 10, 2, tzinfo=UTC))  # late, and before the close
    invoice_id = close(runtime)
    use(runtime, 3, 19)  # too late for the invoice
    use(runtime, 3, 3, org_id="acme")
    seal_once(runtime, everything=True)
    return runtime, invoice_id


def test_a_proof_holds_all_entries_and_is_valid_by_itself(closed: tuple[Runtime, str]) -> None:
    runtime, invoice_id = closed
    proof = read_proof(b"".join(proof_pieces(runtime, invoice_id)))
    report = check_proof(proof)
    assert report.problems == []
    assert (report.invoice_id, report.org_id, report.events, report.through_seq) == (invoice_id, ORG, 12, 19)
    assert (report.first_seq, report.entries) == (6, 15)
    assert report.trusted_by is None
    assert (report.contract, report.plan, report.time_zone) == ("acme 1", "resale", "UTC")
    assert report.log_size == 2
    assert [json.loads(bytes(one))["seq"] for one in proof.entries] == list(range(5, 20))


def test_a_proof_names_no_person(closed: tuple[Runtime, str]) -> None:
    text = b"".join(proof_pieces(*closed)).decode()
    assert "user-1" not in text
    assert "session-1" not in text


def test_a_proof_is_trusted_through_a_key_or_a_checkpoint_that_was_kept(
    closed: tuple[Runtime, str], tmp_path: Path
) -> None:
    runtime, invoice_id = closed
    file = tmp_path / "proof.json.gz"
    write_proof(proof_pieces(runtime, invoice_id), file)
    (key,) = known_keys(runtime)
    assert check_file(file, keys=[str(key)]).trusted_by == "key"
    for size in (1, 2):
        kept = tmp_path / "kept.note"
        kept.write_text(find_checkpoint(runtime, size).note)
        report = check_file(file, checkpoint=kept)
        assert (report.problems, report.trusted_by) == ([], "checkpoint")
        assert check_file(file, checkpoint=kept, keys=[str(key)]).valid


def test_a_checkpoint_of_another_history_is_noticed(closed: tuple[Runtime, str], tmp_path: Path) -> None:
    runtime, invoice_id = closed
    proof = read_proof(b"".join(proof_pieces(runtime, invoice_id)))
    note = find_checkpoint(runtime, 1).note
    (line,) = [line for line in note.splitlines() if line.endswith("=") and " " not in line]
    forged = note.replace(line, "A" * 43 + "=")
    assert any("the log was rewritten" in problem for problem in check_proof(proof, kept=forged).problems)
    stranger = note.replace("tallystick.local/ledger\n", "example.com/other\n", 1)
    assert any("another log" in problem for problem in check_proof(proof, kept=stranger).problems)


def test_a_proof_signed_by_a_key_that_is_not_trusted_is_refused(closed: tuple[Runtime, str]) -> None:
    runtime, invoice_id = closed
    stranger = rotate_signing_key(runtime).public
    report = check_proof(read_proof(b"".join(proof_pieces(runtime, invoice_id))), keys=[stranger])
    assert not report.valid
    assert "none of the keys that are trusted" in report.problems[0]


def test_after_the_key_was_changed_old_and_new_proofs_hold(closed: tuple[Runtime, str]) -> None:
    runtime, invoice_id = closed
    before = read_proof(b"".join(proof_pieces(runtime, invoice_id)))
    new = rotate_signing_key(runtime).public
    use(runtime, 1, 30)
    seal_once(runtime, everything=True)
    after = read_proof(b"".join(proof_pieces(runtime, invoice_id)))
    assert check_proof(before).valid
    assert check_proof(after, keys=[new]).problems == []


def test_an_invoice_that_is_not_sealed_yet_says_so(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, ORG)
    use(runtime, 3)
    invoice_id = close(runtime)
    with pytest.raises(Conflict) as caught:
        proof_pieces(runtime, invoice_id)
    assert caught.value.code == "invoice_not_sealed"
    seal_once(runtime, everything=True)
    assert check_proof(read_proof(b"".join(proof_pieces(runtime, invoice_id)))).valid


@pytest.mark.parametrize("used_before", [0, 2])
def test_a_month_without_requests_is_proved_too(runtime: Runtime, used_before: int) -> None:
    apply(runtime)
    subscribe(runtime, ORG)
    use(runtime, used_before, time=datetime(2026, 9, 2, tzinfo=UTC))
    invoice_id = close(runtime)
    seal_once(runtime, everything=True)
    report = check_proof(read_proof(b"".join(proof_pieces(runtime, invoice_id))))
    assert report.problems == []
    assert (report.events, report.entries) == (0, 1 if used_before else 0)


def test_corrections_are_part_of_the_proof(runtime: Runtime) -> None:
    from tallystick.app.reprice import reprice

    apply(runtime)
    subscribe(runtime, ORG)
    use(runtime, 3, model="a-model-that-nobody-knows")
    use(runtime, 3, 3)
    reprice(runtime)
    invoice_id = close(runtime)
    seal_once(runtime, everything=True)
    report = check_proof(read_proof(b"".join(proof_pieces(runtime, invoice_id))))
    assert report.problems == []


def test_a_ledger_that_was_changed_gives_no_proof(closed: tuple[Runtime, str], tmp_path: Path) -> None:
    import psycopg

    runtime, invoice_id = closed
    with psycopg.connect(runtime.database.url, autocommit=True) as connection:
        connection.execute("alter table ledger_entries disable trigger all")
        connection.execute("update ledger_entries set model = 'gpt-4o' where org_id = 'globex' and seq = 8")
    with pytest.raises(Conflict) as caught:
        write_proof(proof_pieces(runtime, invoice_id), tmp_path / "proof.json")
    assert caught.value.code == "proof_broken"
    assert list(tmp_path.glob("*proof*")) == []


def test_a_packed_proof_that_is_cut_off_is_refused(closed: tuple[Runtime, str], tmp_path: Path) -> None:
    runtime, invoice_id = closed
    file = tmp_path / "proof.json.gz"
    write_proof(proof_pieces(runtime, invoice_id), file)
    data = file.read_bytes()
    for broken in (data[:-1], data + b"x", data[:40], b"\x1f\x8b", gzip.compress(b"{}")):
        file.write_bytes(broken)
        with pytest.raises(BadInput) as caught:
            check_file(file)
        assert caught.value.code == "invalid_proof"
