"""A server that runs for long prices new events by the newest rate card, and leaves recorded ones as they were."""

from __future__ import annotations

import json

import pytest

from tallystick.api import app as api_app
from tallystick.api.app import create_app
from tallystick.app.rates_watch import RatesWatch
from tallystick.app.runtime import open_runtime
from tallystick.core.errors import TallyError


def add_card(runtime, version: str = "newer-1") -> None:
    """A card file beside the bundled ones that brings a model nobody knew."""
    last = runtime.cards.versions[-1]
    header = {
        "row": "card",
        "format": 1,
        "version": version,
        "known_at": "2026-11-22T00:00:00Z",
        "source": "test",
        "source_sha256": "0" * 64,
        "previous": last.sha256,
    }
    folder = runtime.settings.data_dir / "cards"
    folder.mkdir(exist_ok=True)
    (folder / f"{version}.jsonl").write_text(json.dumps(header) + "\n", encoding="utf-8")


def test_nothing_is_read_again_while_nothing_changed(runtime):
    watch = RatesWatch(runtime)
    cards = runtime.cards
    assert not watch.reload_if_newer()
    assert runtime.cards is cards


def test_a_card_added_as_a_file_becomes_the_newest(runtime):
    watch = RatesWatch(runtime)
    add_card(runtime)
    assert watch.reload_if_newer()
    assert runtime.card.version == "newer-1"
    assert not watch.reload_if_newer()


def test_a_card_that_another_process_loaded_becomes_the_newest(runtime):
    watch = RatesWatch(runtime)
    other_settings = runtime.settings.model_copy(update={"data_dir": runtime.settings.data_dir / "other"})
    other_settings.data_dir.mkdir()
    with open_runtime(other_settings, runtime.clock) as other:
        add_card(other)
        other.reload_cards()
    assert runtime.card.version != "newer-1"
    assert watch.reload_if_newer()
    assert runtime.card.version == "newer-1"


def test_a_card_that_cannot_be_read_leaves_the_cards_as_they_were(runtime):
    watch = RatesWatch(runtime)
    folder = runtime.settings.data_dir / "cards"
    folder.mkdir()
    (folder / "broken.jsonl").write_text("not a card\n", encoding="utf-8")
    version = runtime.card.version
    with pytest.raises(TallyError):
        watch.reload_if_newer()
    assert runtime.card.version == version


def test_the_server_looks_by_itself(runtime, monkeypatch):
    import time

    from starlette.testclient import TestClient

    monkeypatch.setattr(api_app, "RATES_LOOK_SECONDS", 0.05)
    with TestClient(create_app(runtime)) as client:
        add_card(runtime)
        until = time.monotonic() + 20
        while client.get("/v1/versions").json()["rate_version"] != "newer-1":
            assert time.monotonic() < until
            time.sleep(0.05)
