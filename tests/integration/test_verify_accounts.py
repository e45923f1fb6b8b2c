"""A check of the ledger follows every org's account, and finds what does not follow from its entries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from conftest import NOW
from invoicing import event
from journal_helpers import query
from sealed_ledger import behind_its_back, copied, copyable, put_back, tamper, tampered
from tallystick.app import verify_settlements
from tallystick.app.erase import erase_person
from tallystick.app.retention import run_retention
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.app.verify import OpenLedger, verify_ledger
from tallystick.app.verify_report import VerifyReport
from tallystick.core.errors import Unavailable
from tallystick.ledger.entry import Entry, entry_fingerprint, entry_leaf
from tallystick.ledger.operations import ReleaseHold
from workshop import do, granted, held, one_of_each, open_account, settled

# The database's own clock has a say in what may leave it.
LONG_AGO = datetime.now(UTC).replace(microsecond=0) - timedelta(days=60)


def told(report: VerifyReport) -> list[str]:
    return [f"{one.check}: {one.sentence()}" for one in report.findings.kept]


def operations(runtime: Runtime) -> int:
    return int(query(runtime, "select count(*) from ledger_entries where body is not null")[0][0])


def at(runtime: Runtime, moment: datetime) -> Runtime:
    settings = runtime.settings.model_copy(update={"retention_days": 45, "block_entries_max": 6})
    return replace(runtime, clock=lambda: moment, settings=settings)


def test_an_account_of_every_kind_of_operation_is_sound(runtime: Runtime) -> None:
    open_account(runtime, "globex", "acme")
    one_of_each(runtime)
    one_of_each(runtime, "acme")
    runtime.append([event("plain", "zeta")])
    report = verify_ledger(runtime)
    assert told(report) == []
    assert report.operations == operations(runtime) == 30
    together = verify_ledger(runtime, processes=2)
    assert (told(together), together.operations) == ([], 30)
    alone = verify_ledger(runtime, org_id="acme")
    assert (told(alone), alone.operations) == ([], 15)
    seal_once(runtime, everything=True)
    assert told(verify_ledger(runtime)) == []


def test_what_has_left_the_database_is_folded_from_its_blocks(runtime: Runtime, monkeypatch: Any) -> None:
    old = at(runtime, LONG_AGO)
    open_account(old, "globex", "acme")
    for org in ("globex", "acme"):
        one_of_each(old, org)
    ((left_open,),) = query(old, "select seq from open_holds where org_id = 'acme'")  # a hold stays until it is ended
    do(old, "release", ReleaseHold(hold_seq=left_open), f"h{left_open}", org_id="acme")
    seal_once(old, everything=True)
    now = at(runtime, datetime.now(UTC))
    held(now)  # the first entries of this moment end what was over: the open hold among it
    settled(now, held(now, work_key="doc-9"), "now-1")
    before = operations(runtime)
    assert run_retention(now).entries == 37
    assert {org for (org,) in query(now, "select distinct org_id from ledger_entries")} == {"globex"}
    report = verify_ledger(now)
    assert told(report) == []
    assert (report.archived, report.operations) == (37, before)
    tamper(now, "update grants set available_pico = available_pico - 1 where org_id = 'acme' and seq = 2")
    assert [one.check for one in verify_ledger(now).findings.kept] == ["state"]
    # An id comes again with other usage, when its entry has left: what was settled then cost what it cost.
    bigger = event("globex-w1", "globex", time=now.clock(), meters={"tokens_in": 77, "tokens_out": 7})
    assert now.append([bigger])[0].status == "accepted"
    assert cost_findings(now) == []
    for bound in ("ASKED_MAX", "SEARCHED_MAX"):  # as for an org with very many settlements
        monkeypatch.setattr(verify_settlements, bound, 1)
    assert cost_findings(now) == []


def test_an_account_is_sound_after_a_person_is_erased(runtime: Runtime) -> None:
    open_account(runtime, "globex")
    one_of_each(runtime)
    seal_once(runtime, everything=True)
    granted(runtime, 7)
    naming = "select count(*) from counters where counter like '%%:user:user-%%' and used <> 0"
    assert query(runtime, naming) != [(0,)]
    assert erase_person(runtime, "globex", "user-1").rows > 4
    erase_person(runtime, "globex", "user-2")
    assert query(runtime, naming) == [(0,)]
    personal = "user_id is not null or session_id is not null or salt is not null"
    assert query(runtime, f"select count(*) from ledger_entries where kind = 'hold' and ({personal})") == [(0,)]
    assert told(verify_ledger(runtime)) == []
    settled(runtime, held(runtime), "after")
    assert told(verify_ledger(runtime)) == []


@pytest.fixture(scope="module")
def ledger(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An account with everything, half of it sealed."""
    folder = tmp_path_factory.mktemp("account")

    def fill(runtime: Runtime) -> None:
        open_account(runtime, "globex", "acme")
        one_of_each(runtime)
        seal_once(runtime, everything=True)
        one_of_each(runtime, "acme")
        runtime.append([event("plain", "zeta")])

    with copyable(server_url, folder, NOW, fill) as name:
        yield name, folder


@pytest.fixture(scope="module")
def laid_open(
    server_url: str, ledger: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[OpenLedger, psycopg.Connection[Any]]]:
    """A copy for all tests, which put back what they change, and the hand that reaches behind it."""
    name, folder = ledger
    with (
        copied(server_url, name, folder, tmp_path_factory.mktemp("laid_open")) as opened,
        behind_its_back(opened) as connection,
    ):
        # What is forged here has hashes of its own that are right; it is not the database that refuses it.
        connection.execute("drop index ledger_entries_resolved_once, ledger_entries_operation")
        yield opened, connection


ENTRY = "update ledger_entries set {} where org_id = 'acme' and kind = '{}'"
TAMPERED = {
    "a body": (ENTRY.format("""body = replace(body, '"5000000000000"', '"4000000000000"')""", "hold"), "leaf"),
    "a fingerprint": (ENTRY.format("fingerprint = sha256('x')", "refund"), "leaf"),
    "who it was": (ENTRY.format("user_id = 'somebody'", "settlement"), "fingerprint"),
    "what an operation costs": (ENTRY.format("cost_pico = 5", "grant"), "form"),
    "an operation with meters": (ENTRY.format("meter_names = '{tokens_in}', meter_quantities = '{5}'", "hold"), "form"),
    "a payer": (ENTRY.format("payer = 'seller'", "usage"), "form"),
    "a cost that the customer paid": (ENTRY.format("payer = 'customer'", "usage"), "transfer"),
    "a transfer more": (
        "insert into transfers select org_id, seq, first_seq, 'receivable', 'expired', asset, 1, recorded_at"
        " from transfers where org_id = 'acme' and asset = 'CREDIT' limit 1",
        "transfer",
    ),
    "a transfer of an entry that moves nothing": (
        "insert into transfers select org_id, seq, seq, 'receivable', 'expired', 'CREDIT', 0, recorded_at"
        " from ledger_entries where org_id = 'acme' and kind = 'standing' limit 1",
        "transfer",
    ),
    "a transfer to another account": (
        "update transfers set debit_account = 'sla_expense' where org_id = 'acme' and debit_account = 'promo_expense'",
        "transfer",
    ),
    "a transfer less": ("delete from transfers where org_id = 'acme' and asset = 'CREDIT'", "transfer"),
    "when credits moved": ("update transfers set recorded_at = now() where asset = 'CREDIT'", "transfer"),
    "a wallet": (
        "update account_balances set credit_pico = credit_pico + 1"
        " where org_id = 'acme' and account = 'wallet_available'",
        "balance",
    ),
    "an account of credits that no org has": (
        "insert into account_balances values ('acme', 'slush', 'CREDIT', 0, 0)",
        "balance",
    ),
    "an account of credits less": (
        "delete from account_balances where org_id = 'acme' and account = 'sla_expense'",
        "balance",
    ),
    "an account of credits where nothing was recorded": (
        "insert into account_balances values ('zeta', 'receivable', 'CREDIT', 0, 0)",
        "balance",
    ),
    "a counter where nothing is counted": (
        "insert into counters values ('zeta', 'day:meter:tokens_in', '2026-11-01T23:00:00Z', 5)",
        "state",
    ),
    "a grant's rest": ("update grants set available_pico = 0 where org_id = 'acme' and available_pico > 0", "state"),
    "a grant's expiry": ("update grants set expires_at = null where org_id = 'acme'", "state"),
    "a grant less": ("delete from grants where org_id = 'acme' and source = 'top_up'", "state"),
    "a grant more": (
        "insert into grants select org_id, 99, source, priority, granted_at, expires_at, amount_pico, available_pico"
        " from grants where org_id = 'acme' limit 1",
        "state",
    ),
    "an open hold less": ("delete from open_holds where org_id = 'acme'", "state"),
    "an open hold's life": ("update open_holds set expires_at = now() where org_id = 'acme'", "state"),
    "finished work less": ("delete from finished_work where org_id = 'acme'", "state"),
    "finished work more": ("insert into finished_work values ('acme', 'tailor', 'doc-77', now(), 5)", "state"),
    "a budget less": ("""update org_states set state = '{}' where org_id = 'acme'""", "state"),
    "a state that is none": ("""update org_states set state = '{' where org_id = 'acme'""", "state"),
    "the terms that it was decided under": (
        ENTRY.format("""body = replace(body, '"contract_version":"1"', '"contract_version":"2"')""", "denial"),
        "account",
    ),
    "a month of included credits that were never given": (
        """update org_states set progress = '{"included":"2026-11"}' where org_id = 'acme'""",
        "state",
    ),
    "a progress that is none": ("""update org_states set progress = '{' where org_id = 'acme'""", "state"),
    "a reservation": (
        "update counters set used = used - 1 where org_id = 'acme' and window_start = '-infinity'",
        "state",
    ),
    "what is used in a window": (
        "update counters set used = used - 1 where org_id = 'acme' and window_start > '-infinity'",
        "state",
    ),
    "usage counted twice": ("update org_states set counted_through_seq = 3 where org_id = 'acme'", "state"),
    "an account without an org": ("insert into grants values ('nobody', 1, 'promo', 0, now(), null, 1, 1)", "head"),
    "a sealed operation": (
        """update ledger_entries set body = replace(body, '"reason":"x"', '"reason":"y"')"""
        " where org_id = 'globex' and kind = 'grant'",
        "block_row",
    ),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_what_is_changed_of_an_account_is_found_and_named(
    laid_open: tuple[OpenLedger, psycopg.Connection[Any]], case: str
) -> None:
    sql, check = TAMPERED[case]
    copy, connection = laid_open
    with tampered(connection, sql):
        found = verify_ledger(copy).findings.kept
    assert check in {one.check for one in found}, [one.sentence() for one in found]
    orgs = {"sealed": "globex", "without": "nobody", "where nothing": "zeta"}
    org = next((org for word, org in orgs.items() if word in case), "acme")
    assert org in {one.org_id for one in found}


def forge(connection: psycopg.Connection[Any], seq: int, **changed: object) -> None:
    """Another entry of acme's at its end, like the one at `seq` but for what is changed; its own hashes are right."""
    found = connection.execute("select * from ledger_entries where org_id = 'acme' and seq = %s", [seq]).fetchone()
    head = connection.execute("select last_seq, time_max from org_heads where org_id = 'acme'").fetchone()
    assert found is not None
    assert head is not None
    like = Entry(*found)._replace(seq=head[0] + 1, time_max=head[1], **changed)  # type: ignore[arg-type]
    told = like._replace(fingerprint=entry_fingerprint(like))
    entry = told._replace(leaf=entry_leaf(told), attributes=Jsonb(told.attributes))  # type: ignore[arg-type]
    places = ", ".join(["%s"] * len(entry))
    connection.execute(f"insert into ledger_entries values ({places})".encode(), list(entry))
    connection.execute("update org_heads set last_seq = last_seq + 1 where org_id = 'acme'")
    connection.execute(
        "update transfers set seq = seq + 1 where org_id = 'acme' and asset = 'USD' and seq = %s", [head[0]]
    )
    connection.execute(
        "insert into transfers"
        " select org_id, %s, %s, debit_account, credit_account, asset, amount_pico, recorded_at from transfers"
        " where org_id = 'acme' and asset = 'CREDIT' and seq = %s",
        [entry.seq, entry.seq, seq],
    )


@pytest.mark.parametrize(
    ("kind", "changed", "told_of"),
    [
        ("settlement", {}, "account"),  # a hold that was resolved is resolved again
        ("release", {}, "account"),
        ("refund", {"request_id": "again"}, "account"),  # the wallet was not so before it
        ("grant", {"request_id": "again"}, "account"),
        ("hold", {"request_id": "again"}, "account"),
        ("budget", {"request_id": "again", "body": '{"request":{},"result":{}}'}, "body"),
        ("budget", {"request_id": "again", "kind": "standing"}, "body"),
        ("denial", {"request_id": "again", "feature": "another"}, "body"),
        ("standing", {"request_id": "again"}, "state"),  # the org is suspended, and its state knows nothing of it
    ],
)
def test_an_entry_that_was_put_there_with_its_hashes_is_found(
    laid_open: tuple[OpenLedger, psycopg.Connection[Any]], kind: str, changed: dict[str, object], told_of: str
) -> None:
    copy, connection = laid_open
    asked = "select min(seq) from ledger_entries where org_id = 'acme' and kind = %s"
    seq = connection.execute(asked, [kind]).fetchall()[0][0]
    with put_back(connection, "ledger_entries", "org_heads", "transfers"):
        forge(connection, seq, **changed)
        found = verify_ledger(copy).findings.kept
    assert told_of in {one.check for one in found}, [one.sentence() for one in found]
    assert {one.org_id for one in found} == {"acme"}


LESS = """body = regexp_replace(body, '"cost_pico":"[0-9]+"', '"cost_pico":"7"')"""
MOST = "kind = 'settlement' and body like '%%-w1%%'"


def cost_findings(opened: OpenLedger | Runtime) -> list[str]:
    return [one.sentence() for one in verify_ledger(opened).findings.kept if "usage" in one.sentence()]


def test_a_settlement_costs_what_the_usage_that_it_names_does(
    laid_open: tuple[OpenLedger, psycopg.Connection[Any]],
) -> None:
    copy, connection = laid_open
    with tampered(connection, f"update ledger_entries set {LESS} where org_id = 'acme' and {MOST}"):
        (found,) = cost_findings(copy)
    assert "says that its usage cost 7 pico-USD, and the entries come to" in found


def test_a_settlement_names_usage_that_there_is(laid_open: tuple[OpenLedger, psycopg.Connection[Any]]) -> None:
    name = """body = replace(body, '"acme-w1"', '"acme-w9"')"""
    copy, connection = laid_open
    with tampered(connection, f"update ledger_entries set {name} where org_id = 'acme' and {MOST}"):
        assert any("it names the usage 'acme-w9'" in one.sentence() for one in verify_ledger(copy).findings.kept)


def test_an_untouched_copy_is_sound(laid_open: tuple[OpenLedger, psycopg.Connection[Any]]) -> None:
    assert told(verify_ledger(laid_open[0])) == []  # as is one where all was put back


def test_an_operator_who_may_not_count_anew_is_told_so(runtime: Runtime, database_url: str) -> None:
    open_account(runtime, "globex")
    held(runtime)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_NO_TEMPORARY)
    with pytest.raises(Unavailable) as caught:
        verify_ledger(runtime)
    assert caught.value.code == "rights_missing"


_NO_TEMPORARY = """
do $$ begin execute format('revoke temporary on database %I from public', current_database()); end $$
"""
