"""A check of the whole ledger finds nothing where nothing was changed, and names what was."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conftest import NOW
from invoicing import event, record
from sealed_ledger import behind_its_back, copied, furnish, furnished, tamper, tampered
from tallystick.app.contract_files import reference_text
from tallystick.app.contracts import apply_contract
from tallystick.app.erase import erase_person
from tallystick.app.runtime import Runtime
from tallystick.app.verify import OpenLedger, verify_ledger
from tallystick.app.verify_report import VerifyReport
from tallystick.core.errors import NotFound
from tallystick.journal.checkpoints import checkpoint_of_size, list_signing_keys
from tallystick.ledger.entry import ENTRY_COLUMNS, Entry, entry_leaf
from tallystick.ledger.notes import SigningKey


@pytest.fixture(scope="module")
def original(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("furnished")
    with furnished(server_url, folder, NOW) as name:
        yield name, folder


@pytest.fixture
def ledger(server_url: str, original: tuple[str, Path], tmp_path: Path) -> Iterator[OpenLedger]:
    """A ledger of four orgs: three blocks, a correction, an invoice, an erased person, two entries not sealed."""
    with copied(server_url, *original, tmp_path / "data") as opened:
        yield opened


@pytest.fixture(scope="module")
def laid_open(
    server_url: str, original: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[OpenLedger, psycopg.Connection[Any]]]:
    """One such ledger for all tests that put back what they change, and the hand that reaches behind it."""
    with (
        copied(server_url, *original, tmp_path_factory.mktemp("laid_open")) as opened,
        behind_its_back(opened) as connection,
    ):
        yield opened, connection


def checks(report: VerifyReport) -> set[str]:
    return {one.check for one in report.findings.kept}


def test_a_ledger_that_nobody_touched_is_sound(laid_open: tuple[OpenLedger, psycopg.Connection[Any]]) -> None:
    report = verify_ledger(laid_open[0])  # nor any longer after a test that did
    assert report.findings.kept == []
    assert (report.orgs, report.entries, report.erased) == (4, 12, 1)
    assert (report.blocks, report.checkpoints, report.invoices) == (3, 3, 1)


def test_an_empty_ledger_is_sound(runtime: Runtime) -> None:
    assert verify_ledger(runtime).findings.kept == []


def test_a_contract_may_be_applied_from_another_instant_than_its_text_says(runtime: Runtime) -> None:
    assert apply_contract(runtime, reference_text(), "reference.yaml", NOW - timedelta(days=400)).is_new
    assert verify_ledger(runtime).findings.kept == []


def test_one_org_can_be_checked_alone(ledger: OpenLedger) -> None:
    tamper(ledger, "update ledger_entries set model = 'x' where org_id = 'acme' and seq = 2")
    assert verify_ledger(ledger, org_id="globex").findings.kept == []
    assert not verify_ledger(ledger, org_id="acme").sound
    with pytest.raises(NotFound):
        verify_ledger(ledger, org_id="nobody")


def test_entries_that_are_not_sealed_yet_are_checked_too(ledger: OpenLedger) -> None:
    tamper(ledger, "update ledger_entries set cost_pico = cost_pico + 1 where org_id = 'newcomer'")
    report = verify_ledger(ledger)
    assert report.first_bad() == {"org_id": "newcomer", "seq": 1, "file": None}
    assert {"leaf", "transfer"} <= checks(report)


def test_several_processes_find_the_same(ledger: OpenLedger) -> None:
    tamper(ledger, "update ledger_entries set reason = 'x' where org_id = 'globex' and seq = 3")
    alone, together = verify_ledger(ledger, processes=1), verify_ledger(ledger, processes=2)
    assert alone.as_dict() == together.as_dict()
    assert alone.first_bad()["seq"] == 3


@pytest.mark.parametrize(
    ("sql", "check", "org", "seq"),
    [
        (
            "update ledger_entries set time = time - interval '1 ms' where org_id = 'globex' and seq = 3",
            "leaf",
            "globex",
            3,
        ),
        ("update ledger_entries set user_id = 'x' where org_id = 'globex' and seq = 4", "fingerprint", "globex", 4),
        ("update ledger_entries set attributes = '{}' where org_id = 'globex' and seq = 4", "fingerprint", "globex", 4),
        ("delete from ledger_entries where org_id = 'globex' and seq = 3", "sequence", "globex", 3),
        ("delete from ledger_entries where org_id = 'globex' and seq = 1", "head", "globex", 1),
        ("delete from ledger_entries where org_id = 'globex'", "sequence", "globex", 7),
        ("update org_heads set last_seq = last_seq + 1 where org_id = 'acme'", "sequence", "acme", 4),
        ("update org_heads set last_seq = last_seq - 1 where org_id = 'acme'", "head", "acme", 3),
        ("update org_heads set time_max = time_max + interval '1 s' where org_id = 'acme'", "head", "acme", 3),
        ("update org_heads set forgotten_until = '2026-01-01Z' where org_id = 'acme'", "head", "acme", 1),
        ("delete from org_heads where org_id = 'zeta'", "head", "zeta", None),
        (
            "update transfers set amount_pico = amount_pico + 1 where org_id = 'globex' and seq = 4",
            "transfer",
            "globex",
            4,
        ),
        ("delete from transfers where org_id = 'zeta'", "transfer", "zeta", 1),
        (
            "update transfers set first_seq = first_seq + 1 where org_id = 'globex' and seq = 4",
            "transfer",
            "globex",
            None,
        ),
        ("update account_balances set debit_pico = debit_pico + 1 where org_id = 'acme'", "balance", "acme", None),
        ("delete from account_balances where org_id = 'acme'", "balance", "acme", None),
        ("insert into erasures values ('acme', 1, now())", "erasure", "acme", 1),
        ("insert into erasures values ('acme', 99, now())", "erasure", "acme", 99),
        ("update block_orgs set root = sha256('x') where org_id = 'acme' and block = 2", "tree_root", "acme", 2),
        ("update block_orgs set frontier = sha256('x') where org_id = 'acme' and block = 1", "tree_root", "acme", 1),
        ("delete from block_orgs where org_id = 'acme' and block = 2", "block_orgs", "acme", None),
        ("update invoices set document = replace(document, '\"USD\"', '\"EUR\"')", "invoice", "globex", None),
        ("update invoices set total_cents = total_cents + 1", "invoice", "globex", None),
        (
            "update checkpoints set note = replace(note, 'previous', 'Previous') where size = 2",
            "checkpoint",
            None,
            None,
        ),
        ("delete from checkpoints where size = 2", "checkpoint", None, None),
        ("update blocks set entries = entries + 1 where block = 2", "block_statement", None, None),
        ("delete from blocks where block = 2", "block_statement", None, None),
        ("update signing_keys set public_key = sha256('x')", "signing_key", None, None),
        (
            "update contract_versions set source_text = source_text || '  extra: {charge: false}\n'",
            "contract",
            None,
            None,
        ),
        ("update rate_versions set card = card || '\n'::bytea where version = 'new'", "rate_card", None, None),
        ("delete from rate_versions where ordinal = 1", "rate_card", None, None),
        ("delete from invoices", "register", None, None),
        ("delete from subscriptions where org_id = 'acme'", "register", None, None),
        ("update subscriptions set plan = 'pro' where org_id = 'acme'", "register", "acme", None),
        ("update invoices set closed_at = now()", "register", "globex", None),
        ("update contract_versions set effective_from = effective_from - interval '1 day'", "register", None, None),
        ("update register set row_sha256 = chain where n = 2", "register", None, None),
    ],
)
def test_what_was_changed_is_named(
    laid_open: tuple[OpenLedger, psycopg.Connection[Any]], sql: str, check: str, org: str | None, seq: int | None
) -> None:
    ledger, connection = laid_open
    with tampered(connection, sql):
        report = verify_ledger(ledger)
    found = [one for one in report.findings.kept if one.check == check and (org is None or one.org_id == org)]
    assert found, [one.sentence() for one in report.findings.kept]
    assert seq is None or seq in [one.seq for one in found], [one.sentence() for one in found]


def test_a_forger_who_hashes_again_is_found_by_the_tree_and_the_block(ledger: OpenLedger) -> None:
    """A row and its leaf are changed so that they fit each other, in the database alone."""
    with behind_its_back(ledger) as connection:
        where = "where org_id = 'globex' and seq = 4"
        row = connection.execute(f"select {', '.join(ENTRY_COLUMNS)} from ledger_entries {where}".encode()).fetchone()
        assert row is not None
        forged = Entry(*row)._replace(latency_ms=8)
        change = f"update ledger_entries set latency_ms = 8, leaf = %s {where}"
        connection.execute(change.encode(), [entry_leaf(forged)])
    report = verify_ledger(ledger)
    assert report.first_bad()["seq"] == 4
    assert "block_row" in checks(report)


def test_the_log_must_continue_a_checkpoint_that_was_kept(ledger: OpenLedger) -> None:
    with ledger.database.operator() as connection:
        keys = list_signing_keys(connection)
        notes = [found.note for size in (1, 2, 3) if (found := checkpoint_of_size(connection, size))]
    for size, note in enumerate(notes, start=1):
        report = verify_ledger(ledger, kept=note, keys=keys)
        assert (report.sound, report.kept_checkpoint) == (True, size)
    with behind_its_back(ledger) as connection:  # who has the key signs a shorter past, but not for those who kept it
        for table in ("checkpoints where size", "block_orgs where block", "blocks where block"):
            connection.execute(f"delete from {table} = 3".encode())
    assert "kept_checkpoint" in checks(verify_ledger(ledger, kept=notes[-1]))


def test_a_key_that_is_not_trusted_vouches_for_nothing(ledger: OpenLedger) -> None:
    report = verify_ledger(ledger, keys=[SigningKey("tallystick.local/ledger", bytes(32)).public])
    assert checks(report) == {"checkpoint"}


def test_an_erased_person_leaves_a_sound_ledger(runtime: Runtime) -> None:
    furnish(runtime)
    record(runtime, [event("u1", user_id="user-9"), event("u2", user_id="user-9")])
    erase_person(runtime, "globex", "user-1")
    erase_person(runtime, "globex", "user-9")
    report = verify_ledger(runtime)
    assert (report.findings.kept, report.erased) == ([], 7)
    tamper(runtime, "delete from erasures where org_id = 'globex' and seq = 3")
    assert verify_ledger(runtime).first_bad()["seq"] == 3


def test_entries_that_left_the_database_are_checked_in_their_blocks(ledger: OpenLedger) -> None:
    """Their blocks vouch for them, and their heads say that it was retention that let them go."""
    with behind_its_back(ledger) as connection:  # as retention does it, which by the database's clock is not due yet
        for org in ("globex", "acme"):
            connection.execute(
                "update org_heads set forgotten_until = (select time_max + interval '1 microsecond'"
                f" from ledger_entries as e where e.org_id = '{org}' and seq = 1) where org_id = '{org}'".encode()
            )
            connection.execute(f"delete from ledger_entries where org_id = '{org}' and seq = 1".encode())
    report = verify_ledger(ledger)
    assert (report.findings.kept, report.archived, report.entries) == ([], 2, 12)
    blocks = ledger.settings.data_dir / "blocks"
    (file,) = blocks.glob("*/block-000000000001.parquet")
    file.unlink()
    report = verify_ledger(ledger)
    assert report.first_bad()["file"] == str(file.relative_to(blocks))
    assert {"block_file", "sequence"} <= checks(report)
