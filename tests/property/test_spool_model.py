"""The spool before the ledger, against a model of both: whatever comes, goes and returns, answers are consistent.

The model is two dictionaries: what waits, and what is in the ledger, each with the first content of every id.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import NOW
from examples import examples
from journal_helpers import query, raw_event
from tallystick.app.ingest import ingest_events
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.app.spool_view import drain_all

_numbers = itertools.count(1)
Event = tuple[int, int]
"""An id and a content, few of each, so that they meet."""

events = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 2)), min_size=1, max_size=6)
operations = st.lists(st.one_of(st.sampled_from(("away", "back", "drain")), events), min_size=1, max_size=12)


@pytest.fixture
def spooling(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    made = Settings(database_url=database_url, data_dir=tmp_path, when_database_away="spool", group_linger_ms=0)
    with open_runtime(made, lambda: NOW) as runtime:
        runtime.known_meters()
        yield runtime


class Model:
    """What must be answered."""

    def __init__(self) -> None:
        self.is_away = False
        self.waiting: dict[int, int] = {}
        self.ledger: dict[int, int] = {}
        self.refused: set[Event] = set()

    def send(self, sent: list[Event]) -> list[str]:
        # An id that waited when the events came is answered from the spool, the others by where they go together.
        waited = dict(self.waiting)
        return [self._one(number, content, waited) for number, content in sent]

    def _one(self, number: int, content: int, waited: dict[int, int]) -> str:
        if number in waited or self.is_away:
            return "spooled" if self.waiting.setdefault(number, content) == content else "conflict"
        if number in self.ledger:
            return "duplicate" if self.ledger[number] == content else "conflict"
        self.ledger[number] = content
        return "accepted"

    def drain(self) -> None:
        for number, content in self.waiting.items():
            if self.ledger.setdefault(number, content) != content:
                self.refused.add((number, content))
        self.waiting.clear()


@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations)
def test_every_answer_is_the_models(spooling: Runtime, operations: list[str | list[Event]]) -> None:
    org, model = f"org-{next(_numbers)}", Model()

    def raws(sent: list[Event]) -> list[dict]:
        return [raw_event(f"r{number}", org_id=org, meters={"tokens_in": content}) for number, content in sent]

    with closing(spooling.open_spool()) as spool, ExitStack() as nobody_drains:
        nobody_drains.enter_context(_held(spool))
        for operation in [*operations, "back", "drain"]:
            if isinstance(operation, list):
                answers = ingest_events(spooling, raws(operation))
                assert [answer.status for answer in answers] == model.send(operation)
            elif operation != "drain":
                spooling.database.withheld = model.is_away = operation == "away"
            elif not model.is_away:
                nobody_drains.close()
                drain_all(spooling)
                nobody_drains.enter_context(_held(spool))
                model.drain()
            assert spool.state().waiting == len(model.waiting)
        refused = [one for one in spool.refused() if one.org_id == org]
    stored = query(
        spooling, "select request_id, meter_quantities[1] from ledger_entries where org_id = %s order by seq", org
    )
    assert dict(stored) == {f"r{number}": content for number, content in model.ledger.items()}
    assert len(stored) == len(model.ledger)
    assert {one.request_id for one in refused} == {f"r{number}" for number, _ in model.refused}
    assert len(refused) == len(model.refused)


class _held:  # noqa: N801 - it reads as what it does
    """Keep everybody else from draining, waiting for whoever drains just now."""

    def __init__(self, spool: object) -> None:
        self._spool = spool

    def __enter__(self) -> None:
        self._stack = ExitStack()
        while not self._stack.enter_context(self._spool.drain_lock()):
            self._stack.close()
            time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        self._stack.close()
