"""The ledger against a model of it: a dictionary of what was accepted, and nothing else.

Appends, duplicates, conflicts, reorderings, seals, erasures, restarts, in any order that hypothesis finds; after each
step the ledger holds exactly what the model holds, at the places that the answers named.
"""

from __future__ import annotations

import itertools
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from examples import examples
from journal_helpers import raw_event
from tallystick.app.erase import erase_person
from tallystick.app.ingest import EventResult, ingest_events
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.seal import seal_once
from tallystick.app.settings import Settings
from tallystick.app.verify import verify_ledger

ORGS = ("acme", "bolt")
IDS = st.integers(0, 30)
CONTENTS = st.integers(0, 2)
"""Few ids and contents, so that they meet."""
EVENTS = st.lists(st.tuples(st.sampled_from(ORGS), IDS, CONTENTS), min_size=1, max_size=12)
Key = tuple[str, str]
_numbers = itertools.count(1)


def raw(org_id: str, number: int, content: int) -> dict[str, Any]:
    return raw_event(
        f"r{number}", org_id=org_id, time=f"2026-10-{number + 1:02d}T00:00:00Z", meters={"tokens_in": content}
    )


def _seq(result: EventResult) -> int:
    return (result.receipt.seq if result.receipt else None) or 0


class LedgerMachine(RuleBasedStateMachine):
    """The ledger on a database of its own, and the model beside it."""

    server_url = ""
    template = ""

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[Key, tuple[int, int, str]] = {}
        """By (org, request id): the content, and the seq and leaf that were answered."""
        self.sealed: dict[str, int] = {}
        self.resources = ExitStack()

    @initialize()
    def begin(self) -> None:
        name = f"machine_{next(_numbers)}"
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(f"create database {name} template template strategy file_copy")
        self.url = self.server_url.replace("/tallystick?", f"/{name}?")
        assert self.url != self.server_url
        self.resources.callback(self._drop, name)
        self.folder = Path(self.resources.enter_context(tempfile.TemporaryDirectory(prefix="tally-")))
        self._open()

    def _drop(self, name: str) -> None:
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)")

    def _open(self) -> None:
        self.running = ExitStack()
        self.runtime: Runtime = self.running.enter_context(
            open_runtime(Settings(database_url=self.url, data_dir=self.folder))
        )

    def teardown(self) -> None:
        if hasattr(self, "running"):
            found = verify_ledger(self.runtime)
            assert found.sound, found
            self.running.close()
        self.resources.close()

    @rule(events=EVENTS, batch=st.sampled_from((1, 3, 100)))
    def append(self, events: list[tuple[str, int, int]], batch: int) -> None:
        results = ingest_events(self.runtime, [raw(*event) for event in events], batch_events=batch)
        for event, result in zip(events, results, strict=True):
            self._expect(event, result)

    @rule(data=st.data())
    def send_everything_again_in_another_order(self, data: st.DataObject) -> None:
        known = [(org, int(request_id[1:]), content) for (org, request_id), (content, _, _) in self.model.items()]
        shuffled = data.draw(st.permutations(known))
        for event, result in zip(shuffled, ingest_events(self.runtime, [raw(*e) for e in shuffled]), strict=True):
            assert result.status == "duplicate"
            self._expect(event, result)

    @rule(groups=st.lists(EVENTS, min_size=2, max_size=4))
    def append_from_several_callers_at_once(self, groups: list[list[tuple[str, int, int]]]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(len(groups)) as callers:
            answers = list(callers.map(lambda events: ingest_events(self.runtime, [raw(*e) for e in events]), groups))
        told = [
            (e, r)
            for events, results in zip(groups, answers, strict=True)
            for e, r in zip(events, results, strict=True)
        ]
        # Whichever came first was accepted; the others are measured by it.
        for event, result in sorted(told, key=lambda pair: (pair[1].status != "accepted", _seq(pair[1]))):
            self._expect(event, result)

    @rule()
    def seal(self) -> None:
        seal_once(self.runtime, everything=True)

    @rule(org_id=st.sampled_from(ORGS))
    def erase_a_person(self, org_id: str) -> None:
        erase_person(self.runtime, org_id, "u1")  # what was told of the events stays true, and they are still known

    @rule()
    def restart(self) -> None:
        self.running.close()
        self._open()

    def _expect(self, event: tuple[str, int, int], result: EventResult) -> None:
        org_id, number, content = event
        key = (org_id, f"r{number}")
        receipt = result.receipt
        assert receipt is not None
        assert receipt.seq is not None
        if key not in self.model:
            assert result.status == "accepted"
            assert receipt.leaf is not None
            assert receipt.seq == 1 + sum(org == org_id for org, _ in self.model), "the next of its org"
            self.model[key] = (content, receipt.seq, receipt.leaf)
            return
        stored_content, seq, leaf = self.model[key]
        if content == stored_content:
            assert (result.status, receipt.seq, receipt.leaf) == ("duplicate", seq, leaf)
        else:
            assert (result.status, receipt.seq) == ("conflict", seq)
            assert receipt.fingerprint != receipt.stored_fingerprint

    @invariant()
    def the_ledger_is_the_model(self) -> None:
        if not hasattr(self, "url"):
            return
        with psycopg.connect(self.url) as connection:
            rows = connection.execute(
                "select org_id, request_id, meter_quantities[1], seq, encode(leaf, 'hex') from ledger_entries"
            ).fetchall()
            heads = dict(connection.execute("select org_id, last_seq from org_heads where last_seq > 0").fetchall())
        assert {(org, request_id): tuple(rest) for org, request_id, *rest in rows} == self.model
        counts = {org: sum(1 for one, _ in self.model if one == org) for org in ORGS}
        assert heads == {org: count for org, count in counts.items() if count}


@pytest.mark.timeout(600)
def test_the_ledger_does_what_its_model_does(server_url: str) -> None:
    machine = type("Machine", (LedgerMachine,), {"server_url": server_url})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples(4), stateful_step_count=12, suppress_health_check=list(HealthCheck)),
    )
