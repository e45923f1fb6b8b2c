"""Keys in the database and in the memory of processes: made, found, ended at once everywhere, and never told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conftest import NOW
from journal_helpers import query
from tallystick.app import key_ring
from tallystick.app.erase import erase_person
from tallystick.app.key_ring import KeyRing
from tallystick.app.keys import NewKey, create_key, key_document, list_keys, revoke_key, rotate_key
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.app.verify import verify_ledger
from tallystick.core.errors import BadInput, Conflict, NotFound, TallyError, Unauthorized, Unavailable
from tallystick.journal import keys as rows
from tallystick.journal.database import Database
from tallystick.ledger.api_key import new_token, token_sha256

HOUR = timedelta(hours=1)
STRANGER = new_token(b"x" * 40)[0]
SOON_SECONDS = 2.0
"""How long until what one process did to a key reaches another one, on a machine that is busy; usually milliseconds."""


def make(runtime: Runtime, **more: Any) -> NewKey:
    terms: dict[str, Any] = {"org_id": "acme", "scopes": ["gateway", "read"], "author": "ann", **more}
    return create_key(runtime, **terms)


def soon(told: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SOON_SECONDS
    while not told():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def refusal(find: Callable[[], object]) -> str | None:
    try:
        find()
    except TallyError as error:
        return error.code
    return None


@pytest.fixture
def other(database_url: str, tmp_path: Path, runtime: Runtime) -> Iterator[Runtime]:
    """Another process, as it were, with the same database."""
    with open_runtime(Settings(database_url=database_url, data_dir=tmp_path), lambda: NOW) as opened:
        opened.keys.start()
        assert soon(lambda: opened.keys.is_heard)
        yield opened


def cut_listeners(url: str) -> None:
    """End the connections over which processes hear of keys."""
    with psycopg.connect(url, autocommit=True) as connection:
        ended = connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and query = 'select 1' and pid <> pg_backend_pid()"
        )
        assert ended.rowcount == 1


def everything_stored(url: str) -> str:
    with psycopg.connect(url) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        return "\n".join(
            str(row) for (table,) in tables for row in connection.execute(f"select t::text from {table} as t".encode())
        )


def test_the_database_keeps_the_sha256_of_a_token_and_nothing_else_of_it(runtime: Runtime, database_url: str) -> None:
    made = make(runtime)
    stored = everything_stored(database_url)
    assert token_sha256(made.token).hex() in stored
    secret = made.token.split("_")[2]
    assert secret not in stored
    assert secret not in repr(made)
    assert secret not in str(key_document(made.key, NOW))
    assert made.key.prefix == made.token[:11]


def test_a_key_is_found_by_its_token_with_all_that_it_says(runtime: Runtime, other: Runtime) -> None:
    defaults = {"feature": "chat", "user_id": "batch", "session_id": "s1", "environment": "staging"}
    made = make(runtime, defaults=defaults, expires_at=NOW + HOUR)
    assert other.keys.known(made.token, NOW) is None  # nobody has asked for it yet
    found = other.keys.find(made.token, NOW)
    assert found == made.key
    assert found.defaults == defaults
    assert soon(lambda: other.keys.find(made.token, NOW) is not None and other.keys.known(made.token, NOW) == found)
    assert other.keys.known(made.token, NOW + HOUR) is None
    assert refusal(lambda: other.keys.find(made.token, NOW + HOUR)) == "key_expired"


def test_a_revoked_key_is_refused_in_every_process_as_soon_as_it_is_revoked(runtime: Runtime, other: Runtime) -> None:
    made = make(runtime)
    assert soon(lambda: other.keys.find(made.token, NOW) is not None and other.keys.known(made.token, NOW) is not None)
    ended = revoke_key(runtime, made.key.key_id, reason="leaked", author="bob")
    assert (ended.is_ended, ended.reason) == (True, "leaked")
    assert refusal(lambda: runtime.keys.find(made.token, NOW)) == "key_revoked"  # where it was done: from then on
    assert soon(lambda: other.keys.known(made.token, NOW) is None)
    assert refusal(lambda: other.keys.find(made.token, NOW)) == "key_revoked"
    again = revoke_key(runtime, made.key.key_id, reason="leaked again", author="bob")
    assert again == ended


def test_a_rotated_key_and_the_one_that_takes_its_place_are_both_taken_until_the_overlap_is_over(
    runtime: Runtime,
) -> None:
    made = make(runtime, defaults={"feature": "chat", "user_id": "u1"}, expires_at=NOW + 30 * HOUR)
    new = rotate_key(runtime, made.key.key_id, overlap=24 * HOUR, author="bob")
    assert new.token != made.token
    assert (new.key.org_id, new.key.scopes, new.key.defaults, new.key.expires_at, new.key.replaces) == (
        "acme",
        made.key.scopes,
        made.key.defaults,
        made.key.expires_at,
        made.key.key_id,
    )
    for token in (made.token, new.token):
        assert runtime.keys.find(token, NOW + 23 * HOUR).org_id == "acme"
    assert refusal(lambda: runtime.keys.find(made.token, NOW + 24 * HOUR)) == "key_revoked"
    assert runtime.keys.find(new.token, NOW + 24 * HOUR).key_id == new.key.key_id
    statuses = [key_document(key, NOW)["status"] for key in list_keys(runtime, "acme")]
    assert sorted(statuses) == ["active", "ending"]
    # Whoever needs it to end earlier ends it: the first end holds.
    revoke_key(runtime, made.key.key_id, reason="leaked", author="bob")
    assert refusal(lambda: runtime.keys.find(made.token, NOW)) == "key_revoked"
    with pytest.raises(Conflict) as caught:
        rotate_key(runtime, made.key.key_id, overlap=HOUR, author="bob")
    assert caught.value.code == "key_ended"


@pytest.mark.parametrize("ends", ["expires", "rotated"])
def test_a_revocation_holds_though_the_clock_of_who_revokes_is_far_ahead(runtime: Runtime, ends: str) -> None:
    made = make(runtime, expires_at=NOW + HOUR if ends == "expires" else None)
    if ends == "rotated":
        rotate_key(runtime, made.key.key_id, overlap=HOUR, author="ann")
    runtime.clock = lambda: NOW + 2 * HOUR  # to this machine the key is over already
    assert refusal(lambda: runtime.keys.find(made.token, NOW)) is None
    for _ in range(2):
        ended = revoke_key(runtime, made.key.key_id, reason="leaked", author="bob")
        assert ended.is_ended
    assert refusal(lambda: runtime.keys.find(made.token, NOW)) == "key_revoked"
    (count,) = query(runtime, "select count(*) from api_key_endings where reason = 'leaked'")[0]
    assert count == 1


def test_a_rotation_without_overlap_ends_the_old_key_at_once(runtime: Runtime) -> None:
    made = make(runtime)
    rotate_key(runtime, made.key.key_id, overlap=timedelta(0), author="bob")
    assert refusal(lambda: runtime.keys.find(made.token, NOW - HOUR)) == "key_revoked"  # whatever a clock says


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"scopes": []}, "missing_field"),
        ({"scopes": ["raed"]}, "unknown_scope"),
        ({"scopes": ["admin"]}, "scope_needs_operator"),
        ({"org_id": None, "scopes": ["gateway"]}, "scope_needs_org"),
        ({"org_id": None, "scopes": ["tools", "read"]}, "scope_needs_org"),
        ({"org_id": None, "scopes": ["read"], "defaults": {"user_id": "u1"}}, "default_needs_org"),
        ({"org_id": None, "scopes": ["read"], "defaults": {"feature": "chat"}}, "default_needs_org"),
        ({"org_id": ""}, "empty_text"),
        ({"org_id": "a\0b"}, "invalid_text"),
        ({"org_id": "x" * 513}, "text_too_long"),
        ({"author": ""}, "empty_text"),
        ({"defaults": {"user": "u1"}}, "unknown_field"),
        ({"defaults": {"user_id": ""}}, "empty_text"),
        ({"defaults": {"feature": "a\nb"}}, "invalid_text"),
        ({"expires_at": NOW}, "expired_already"),
    ],
)
def test_terms_that_no_key_can_have_are_refused(runtime: Runtime, terms: dict[str, Any], code: str) -> None:
    with pytest.raises(BadInput) as caught:
        make(runtime, **terms)
    assert caught.value.code == code
    assert list_keys(runtime) == []


def test_keys_that_are_not_there_cannot_be_ended_or_replaced(runtime: Runtime) -> None:
    for change in (
        lambda: revoke_key(runtime, "key_nobodys", reason="x", author="ann"),
        lambda: rotate_key(runtime, "key_nobodys", overlap=HOUR, author="ann"),
    ):
        with pytest.raises(NotFound) as caught:
            change()
        assert caught.value.code == "unknown_key_id"
    made = make(runtime)
    with pytest.raises(BadInput):
        rotate_key(runtime, made.key.key_id, overlap=timedelta(days=366), author="ann")
    with pytest.raises(BadInput):
        rotate_key(runtime, made.key.key_id, overlap=HOUR, expires_at=NOW, author="ann")


def test_two_rotations_at_once_leave_two_keys_that_work_and_one_end(runtime: Runtime) -> None:
    made = make(runtime)
    found: list[NewKey] = []
    threads = [
        threading.Thread(target=lambda: found.append(rotate_key(runtime, made.key.key_id, overlap=HOUR, author="ann")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len({runtime.keys.find(one.token, NOW).key_id for one in found}) == 4
    assert refusal(lambda: runtime.keys.find(made.token, NOW + HOUR)) == "key_revoked"


def test_whoever_asks_at_once_a_key_that_was_refused_is_never_taken_again(runtime: Runtime, other: Runtime) -> None:
    made = [make(runtime) for _ in range(4)]
    rings = (runtime.keys, other.keys)
    is_over = threading.Event()
    wrong: list[str] = []

    def ask(ring: KeyRing, key: NewKey) -> None:
        was_refused = False
        while not is_over.is_set():
            code = refusal(lambda: ring.find(key.token, NOW))
            if code not in (None, "key_revoked") or (was_refused and code is None):
                wrong.append(f"{key.key.key_id} after its end: {code}")
            was_refused = was_refused or code is not None
            time.sleep(0.0005)

    threads = [threading.Thread(target=ask, args=(ring, key)) for ring in rings for key in made]
    for thread in threads:
        thread.start()
    for key in made[:3]:
        make(runtime, org_id="globex")  # what happens to others empties every memory, too
        revoke_key(runtime, key.key.key_id, reason="leaked", author="bob")
        for ring in rings:
            assert soon(lambda ring=ring, key=key: refusal(lambda: ring.find(key.token, NOW)) == "key_revoked")
    is_over.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert {refusal(lambda ring=ring: ring.find(made[3].token, NOW)) for ring in rings} == {None}


# ── the memory of a process ─────────────────────────────────────────────────────────────────────────────────────────


class Counting:
    """A database that counts how often it is asked, and can be away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.asked = 0
        self.is_away = False

    def connect(self, role: str) -> Any:
        if self.is_away:
            raise psycopg.OperationalError("it is away")
        return self._database.connect(role)

    def operator(self) -> Any:
        self.asked += 1
        if self.is_away:
            raise Unavailable("database_unreachable", "it is away", next_step="wait")
        return self._database.operator()


@pytest.fixture
def counting(runtime: Runtime) -> Counting:
    return Counting(runtime.database)


@pytest.fixture
def ring(counting: Counting) -> Iterator[KeyRing]:
    opened = KeyRing(counting)  # type: ignore[arg-type]
    opened.start()
    assert soon(lambda: opened.is_heard)
    yield opened
    opened.close()


def test_a_key_is_asked_of_the_database_once_until_something_happens_to_any_key(
    runtime: Runtime, counting: Counting, ring: KeyRing
) -> None:
    made = make(runtime)
    changes = ring.changes
    assert soon(lambda: ring.changes > 0 and ring.find(made.token, NOW) == ring.known(made.token, NOW))
    counting.asked = 0
    for _ in range(50):
        assert ring.find(made.token, NOW) == made.key
    assert counting.asked == 0
    changes = ring.changes
    make(runtime, org_id="globex")
    assert soon(lambda: ring.changes > changes)
    assert ring.find(made.token, NOW) == made.key
    assert counting.asked == 1


def test_guessed_tokens_are_asked_for_once_each_and_fill_no_memory(
    counting: Counting, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "UNKNOWN_MAX", 50)
    for _ in range(20):
        assert refusal(lambda: ring.find(STRANGER, NOW)) == "key_unknown"
    assert counting.asked == 1
    for shapeless in ("", "tk_", "sk-ant-1", STRANGER + "x", "tk_" + "é" * 52, "x" * 100_000):
        assert refusal(lambda text=shapeless: ring.find(text, NOW)) == "key_unknown"
        assert ring.known(shapeless, NOW) is None
    assert counting.asked == 1
    for number in range(120):
        ring._ask(number.to_bytes(32))
        assert len(ring._unknown) <= 50
    assert ring._known == {}


def test_a_token_that_was_unknown_is_found_as_soon_as_its_key_is_made(
    runtime: Runtime, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.app.keys.secrets.token_bytes", lambda count: b"x" * count)
    assert refusal(lambda: ring.find(STRANGER, NOW)) == "key_unknown"
    assert make(runtime).token == STRANGER
    assert soon(lambda: refusal(lambda: ring.find(STRANGER, NOW)) is None)


def test_two_keys_never_have_one_public_part(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([b"x" * 40, b"x" * 16, b"x" * 40, b"x" * 16, b"y" * 40, b"y" * 16])
    monkeypatch.setattr("tallystick.app.keys.secrets.token_bytes", lambda _count: next(drawn))
    assert make(runtime).key.key_id != make(runtime).key.key_id
    assert len(list_keys(runtime)) == 2


def test_while_the_database_is_not_heard_nothing_that_is_remembered_is_trusted(
    runtime: Runtime, counting: Counting
) -> None:
    now = [1000.0]
    ring = KeyRing(counting, monotonic=lambda: now[0])  # type: ignore[arg-type]
    made = make(runtime)
    ring.start()
    assert soon(lambda: ring.is_heard)
    ring.find(made.token, NOW)
    counting.is_away = True
    ring.close()  # the listening connection is gone
    assert not ring.is_heard
    assert ring.known(made.token, NOW) is None
    assert refusal(lambda: ring.find(made.token, NOW)) == "database_unreachable"
    counting.is_away = False
    revoke_key(runtime, made.key.key_id, reason="leaked", author="bob")
    assert refusal(lambda: ring.find(made.token, NOW)) == "key_revoked"


def test_a_server_that_stops_answering_is_no_longer_heard_after_a_few_seconds(ring: KeyRing) -> None:
    assert ring.is_heard
    later = KeyRing(ring._database, monotonic=lambda: 5000.0)
    later._heard_at = 5000.0 - 2.4
    assert later.is_heard
    later._heard_at = 5000.0 - 2.5
    assert not later.is_heard


def test_nothing_is_remembered_for_long_even_while_the_database_is_heard(runtime: Runtime, counting: Counting) -> None:
    now = [1000.0]
    ring = KeyRing(counting, monotonic=lambda: now[0])  # type: ignore[arg-type]
    made = make(runtime)
    ring._stopping.set()  # nobody listens: word of what happens never comes
    ring._heard_at = now[0]
    ring.find(made.token, NOW)
    revoke_key(runtime, made.key.key_id, reason="leaked", author="bob")
    now[0] = ring._heard_at = 1029.9
    assert ring.known(made.token, NOW) == made.key
    now[0] = ring._heard_at = 1030.0
    assert ring.known(made.token, NOW) is None
    assert refusal(lambda: ring.find(made.token, NOW)) == "key_revoked"


def test_where_events_are_spooled_keys_are_taken_as_they_were_known_last(runtime: Runtime, counting: Counting) -> None:
    ring = KeyRing(counting, serves_while_away=True)  # type: ignore[arg-type]
    ring.start()
    assert soon(lambda: ring.is_heard)
    made, ended = make(runtime), make(runtime)
    revoke_key(runtime, ended.key.key_id, reason="leaked", author="bob")
    changes = ring.changes
    assert soon(lambda: refusal(lambda: ring.find(made.token, NOW)) is None and ring.known(made.token, NOW) is not None)
    assert changes <= ring.changes
    assert refusal(lambda: ring.find(ended.token, NOW)) == "key_revoked"
    counting.is_away = True
    ring.close()
    assert ring.find(made.token, NOW) == made.key
    assert refusal(lambda: ring.find(ended.token, NOW)) == "key_revoked"
    assert refusal(lambda: ring.find(STRANGER, NOW)) == "database_unreachable"


def test_while_the_database_is_away_a_spooling_server_keeps_nobody_waiting_for_it(
    runtime: Runtime, counting: Counting, database_url: str
) -> None:
    ring = KeyRing(counting, serves_while_away=True)  # type: ignore[arg-type]
    ring.start()
    made = make(runtime)
    assert soon(lambda: refusal(lambda: ring.find(made.token, NOW)) is None and ring.known(made.token, NOW) is not None)
    counting.is_away = True
    cut_listeners(database_url)
    assert soon(lambda: ring._is_away)
    ring._heard_at = float("-inf")  # as it is some seconds later
    counting.asked = 0
    assert ring.find(made.token, NOW) == made.key
    assert counting.asked == 0
    counting.is_away = False
    assert soon(lambda: ring.is_heard)
    assert ring.known(made.token, NOW) is None  # what happened meanwhile is asked
    ring.close()


def test_a_spooling_server_that_only_cannot_listen_asks_the_database_and_goes_by_no_memory(
    runtime: Runtime, counting: Counting, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = KeyRing(counting, serves_while_away=True)  # type: ignore[arg-type]
    ring.start()
    made = make(runtime)
    assert soon(lambda: refusal(lambda: ring.find(made.token, NOW)) is None and ring.known(made.token, NOW) is not None)

    def refused(role: str) -> Any:
        raise psycopg.OperationalError("FATAL: sorry, too many clients already")

    monkeypatch.setattr(counting, "connect", refused)
    cut_listeners(database_url)
    assert soon(lambda: "too many clients" in str(ring.heard().error))
    assert not ring.heard().is_heard
    revoke_key(runtime, made.key.key_id, reason="leaked", author="bob")
    assert ring.known(made.token, NOW) is None
    assert refusal(lambda: ring.find(made.token, NOW)) == "key_revoked"
    assert not ring.heard().is_away
    monkeypatch.undo()
    assert soon(lambda: ring.heard().error is None and ring.is_heard)
    ring.close()


def test_listening_begins_again_when_the_connection_is_lost_and_what_happened_meanwhile_is_known(
    runtime: Runtime, counting: Counting, ring: KeyRing, database_url: str
) -> None:
    made = make(runtime)
    assert soon(lambda: ring.find(made.token, NOW) == ring.known(made.token, NOW))
    counting.is_away = True
    cut_listeners(database_url)
    assert soon(lambda: ring.heard().error is not None)
    revoke_key(runtime, made.key.key_id, reason="leaked", author="bob")  # told to nobody: the ring does not listen
    changes = ring.changes
    counting.is_away = False
    assert soon(lambda: ring.changes > changes)
    assert ring.known(made.token, NOW) is None
    assert refusal(lambda: ring.find(made.token, NOW)) == "key_revoked"


def test_what_is_read_while_a_key_changes_is_not_remembered(runtime: Runtime, ring: KeyRing) -> None:
    made = make(runtime)
    real = ring._database.operator

    def overtaken() -> Any:
        ring.forget()  # word of a change arrives after the question was asked, and before its answer is remembered
        return real()

    ring._database.operator = overtaken  # type: ignore[method-assign]
    assert ring.find(made.token, NOW) == made.key
    assert ring.known(made.token, NOW) is None


def test_a_lookup_in_memory_takes_microseconds(runtime: Runtime, ring: KeyRing) -> None:
    made = make(runtime)
    assert soon(lambda: ring.find(made.token, NOW) == ring.known(made.token, NOW))

    def seconds() -> float:
        started = time.perf_counter()
        for _ in range(2000):
            ring.known(made.token, NOW)
        return (time.perf_counter() - started) / 2000

    assert min(seconds() for _ in range(20)) < 10e-6


# ── persons ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_erasing_a_person_ends_the_keys_that_stand_for_them_and_leaves_no_trace_of_them(
    runtime: Runtime, database_url: str
) -> None:
    hers = make(runtime, defaults={"user_id": "erika.mustermann", "session_id": "hers", "feature": "chat"})
    others = make(runtime, defaults={"user_id": "somebody"})
    elsewhere = make(runtime, org_id="globex", defaults={"user_id": "erika.mustermann"})
    erased = erase_person(runtime, "acme", "erika.mustermann")
    assert erased.keys == 1
    assert refusal(lambda: runtime.keys.find(hers.token, NOW)) == "key_revoked"
    for kept in (others, elsewhere):
        assert runtime.keys.find(kept.token, NOW) == kept.key
    left = {key.key_id: key for key in list_keys(runtime)}[hers.key.key_id]
    assert (left.defaults, left.reason) == ({"feature": "chat"}, "person_erased")
    assert "'hers'" not in everything_stored(database_url)
    assert everything_stored(database_url).count("erika.mustermann") == 1  # another org's
    assert verify_ledger(runtime).findings.kept == []
    assert erase_person(runtime, "acme", "erika.mustermann").keys == 0


def test_a_person_whose_key_is_being_rotated_is_erased_from_the_new_key_too(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    hers = make(runtime, defaults={"user_id": "erika"})
    real, erasing, erased = rows.add_key, threading.Event(), []

    def erase() -> None:
        erasing.set()
        erased.append(erase_person(runtime, "acme", "erika").keys)

    thread = threading.Thread(target=erase)

    def overtaken(*arguments: Any) -> None:
        thread.start()  # the old key is ended, the new one is not there yet
        erasing.wait(5)
        time.sleep(0.2)
        real(*arguments)

    monkeypatch.setattr(rows, "add_key", overtaken)
    new = rotate_key(runtime, hers.key.key_id, overlap=HOUR, author="ann")
    thread.join(20)
    assert erased == [2]
    assert [key.defaults for key in list_keys(runtime)] == [{}, {}]
    for one in (hers, new):
        assert refusal(lambda one=one: runtime.keys.find(one.token, NOW)) == "key_revoked"


def test_even_the_keeper_erases_no_person_of_a_key_that_goes_on(runtime: Runtime, database_url: str) -> None:
    make(runtime, defaults={"user_id": "u1"})
    with psycopg.connect(database_url) as connection:
        connection.execute("grant select on api_key_persons to tallystick_keeper")
        connection.execute("set role tallystick_keeper")
        with pytest.raises(psycopg.errors.RestrictViolation), connection.transaction():
            connection.execute("delete from api_key_persons")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("update api_key_persons set user_id = 'u2'")


def test_a_keys_token_is_not_in_what_is_said_of_any_of_its_refusals(runtime: Runtime) -> None:
    made = make(runtime)
    revoke_key(runtime, made.key.key_id, reason="leaked", author="bob")
    secret = made.token.split("_")[2]
    for token in (made.token, made.token[:-1] + "0", "Bearer " + made.token):
        with pytest.raises(Unauthorized) as caught:
            runtime.keys.find(token, NOW)
        assert secret[:20] not in str(caught.value.as_dict())
