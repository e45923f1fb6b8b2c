"""What is not in the ledger yet, or was refused, is found where it is; the refused are tried again or given up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from account_operations import wrongs
from gateway_tools import NOW, Stand, gateway, wait_until
from journal_helpers import query, raw_event
from tallystick.app.find import find
from tallystick.app.release import release
from tallystick.app.settlement_queue import queue_state
from tallystick.app.settlement_view import (
    drain_queue,
    give_up_settlement,
    retry_settlements,
    settlement_contents,
)
from tallystick.core.errors import BadInput, NotFound
from tallystick.journal.settlement_file import SettlementFile
from tallystick.journal.steps import install
from tallystick.usage.checks import check_event
from tallystick.usage.meters import METERS


@pytest.fixture
def stand(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    with gateway(database_url, tmp_path, monkeypatch, more="commit: async") as opened:
        yield opened


@pytest.fixture
def halted(stand: Stand) -> Iterator[Stand]:
    """Nothing is drained: whoever wants to finds the disk full of trouble."""

    def fail(step: str) -> None:
        if step == "settlements.read":
            raise RuntimeError("it cannot be drained now")

    install(fail)
    yield stand
    install(None)


def only(stand: Stand, text: str, **asked: Any) -> dict[str, Any]:
    (story,) = find(stand.runtime, text, **asked)["stories"]
    return story


def refuse(stand: Stand, org_id: str = "acme", code: str = "request_id_conflict") -> str:
    """Have the ledger refuse what waits; the hold that it is of."""
    with closing(SettlementFile(stand.runtime.settings.data_dir)) as file:
        (row,) = file.waiting_rows()
        file.take_out([], [(row, code, "somebody else was first")], "2026-11-02T12:00:01Z")
        assert row.org_id == org_id
        return row.name


def test_a_settlement_that_waits_is_told_of_with_its_decision(halted: Stand) -> None:
    answer = halted.post(x_tally_request_id="later")
    assert answer.headers["x-tally-cost-status"] == "queued"
    story = only(halted, "later")
    assert [step["step"] for step in story["steps"]] == ["decision", "hold", "queued"]
    queued = story["steps"][-1]
    assert queued["where"] == "settlement queue"
    assert queued["usage"][0]["meters"] == {"tokens_in": 100, "tokens_out": 20}
    assert story["not_in_ledger"] == 1
    assert "settlement_queue" in story["found_as"]
    assert only(halted, answer.headers["x-tally-hold"], org_id="acme")["steps"] == story["steps"]
    install(None)
    wait_until(lambda: queue_state(halted.runtime).waiting == 0)
    assert only(halted, "later")["not_in_ledger"] == 0


def test_an_event_in_the_spool_is_found_there(halted: Stand) -> None:
    event = check_event(raw_event("spooled-1", org_id="initech"), now=NOW, known_meters=METERS)
    with closing(halted.runtime.open_spool()) as spool:
        spool.add([event], [bytes(16)], NOW)
        story = only(halted, "spooled-1")
        assert story["org_id"] == "initech"
        assert [(step["step"], step["where"]) for step in story["steps"]] == [("queued", "spool")]
        assert story["entries"] == []
        with pytest.raises(NotFound):
            find(halted.runtime, "spooled", org_id=None)  # a part of an id is no id
        spool.settle(spool.first(1), [], NOW)


def test_what_was_refused_is_listed_and_written_when_it_is_tried_again(halted: Stand) -> None:
    halted.post(x_tally_request_id="later")
    hold = refuse(halted)
    contents = settlement_contents(halted.runtime.settings)
    (one,) = contents.refused
    assert (one["hold_id"], one["code"], one["reason"]) == (hold, "request_id_conflict", "somebody else was first")
    assert one["usage"][0]["request_id"] == "later"
    assert one["refused_at"] == "2026-11-02T12:00:01Z"
    story = only(halted, "later")
    assert (story["steps"][-1]["step"], story["steps"][-1]["code"]) == ("refused", "request_id_conflict")

    with pytest.raises(NotFound) as caught:
        retry_settlements(halted.runtime.settings, lambda: NOW, "initech", hold)
    assert caught.value.code == "not_refused"
    with pytest.raises(BadInput):
        retry_settlements(halted.runtime.settings, lambda: NOW, "acme", "s1")
    assert retry_settlements(halted.runtime.settings, lambda: NOW, "acme", hold) == 1
    install(None)
    drain_queue(halted.runtime)
    wait_until(lambda: queue_state(halted.runtime).waiting == 0)
    assert [each["request_id"] for each in halted.usage()] == ["later"]
    assert len(halted.settlements()) == 1
    assert retry_settlements(halted.runtime.settings, lambda: NOW) == 0
    assert wrongs(halted.runtime) == []


def test_what_is_given_up_releases_its_hold_and_is_kept_with_author_and_reason(halted: Stand) -> None:
    halted.post(x_tally_request_id="later")
    hold = refuse(halted)
    with pytest.raises(BadInput):
        give_up_settlement(halted.runtime, "acme", hold, author="ann", reason=" ")
    with pytest.raises(NotFound):
        give_up_settlement(halted.runtime, "acme", "h999", author="ann", reason="r")
    done = give_up_settlement(halted.runtime, "acme", hold, author="ann", reason="it was a test")
    assert done["hold_is"] == "released"
    contents = settlement_contents(halted.runtime.settings)
    assert contents.refused == []
    (left,) = contents.given_up
    assert (left.name, left.author, left.why, left.code) == (hold, "ann", "it was a test", "request_id_conflict")
    steps = only(halted, "later")["steps"]
    assert steps[-1]["step"] == "release"
    assert "given up by ann: it was a test" in str(steps[-1])
    assert halted.open_holds() == 0
    with pytest.raises(NotFound):
        give_up_settlement(halted.runtime, "acme", hold, author="ann", reason="again")
    told = "select subject, org_id, author, reason from administrative_acts where act = 'settlement.give_up'"
    assert query(halted.runtime, told) == [(hold, "acme", "ann", "it was a test")]


def test_giving_up_what_ended_otherwise_changes_nothing_in_the_ledger(halted: Stand) -> None:
    halted.post(x_tally_request_id="later")
    hold = refuse(halted)
    release(halted.runtime, {"org_id": "acme", "hold_id": hold, "reason": "by hand"})
    before = halted.entries()
    done = give_up_settlement(halted.runtime, "acme", hold, author="ann", reason="done by hand")
    assert (done["release_id"], done["hold_is"]) == (None, "hold_resolved")
    assert halted.entries() == before


def test_what_is_given_up_is_not_tried_again_by_somebody_else_meanwhile(halted: Stand) -> None:
    halted.post(x_tally_request_id="later")
    hold = refuse(halted)
    back: list[int] = []
    meanwhile = threading.Thread(
        target=lambda: back.append(retry_settlements(halted.runtime.settings, lambda: NOW, "acme"))
    )

    def try_again(step: str) -> None:
        if step == "settlements.read":
            raise RuntimeError("it cannot be drained now")
        if step == "operations.taken" and not meanwhile.ident:
            meanwhile.start()
            meanwhile.join(0.3)

    install(try_again)
    done = give_up_settlement(halted.runtime, "acme", hold, author="ann", reason="it was a test")
    meanwhile.join()
    assert (done["given_up"], done["hold_is"], back) == (1, "released", [0])
    install(None)
    drain_queue(halted.runtime)
    assert halted.usage() == []


def test_what_is_tried_again_cannot_be_given_up_and_keeps_its_hold(halted: Stand) -> None:
    halted.post(x_tally_request_id="later")
    hold = refuse(halted)
    assert retry_settlements(halted.runtime.settings, lambda: NOW, "acme", hold) == 1
    with pytest.raises(NotFound):
        give_up_settlement(halted.runtime, "acme", hold, author="ann", reason="too late")
    assert halted.open_holds() == 1
    install(None)
    drain_queue(halted.runtime)
    wait_until(lambda: queue_state(halted.runtime).waiting == 0)
    assert len(halted.settlements()) == 1
