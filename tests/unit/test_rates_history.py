"""History is kept: what a release overwrites stays as it was known, and nothing written is ever rewritten."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tallystick.app.cards import load_card_history, read_card_files
from tallystick.core.errors import BadInput, NotFound
from tallystick.rates.card import CardHistory
from tallystick.rates.cardfile import (
    FORMAT,
    AliasLine,
    CardVersion,
    Header,
    Line,
    ModelLine,
    RateLine,
    parse_card_file,
    render_card_file,
)
from tallystick.rates.changes import compare
from tallystick.rates.fold import Known, fold, known_from
from tallystick.rates.names import Resolved
from tallystick.rates.source import read_release

Match = dict[str, dict[str, Any]]
Prices = dict[str, Any] | list[dict[str, Any]]


class Chain:
    """Card files made from made-up releases, as they are made from real ones."""

    def __init__(self) -> None:
        self.versions: list[CardVersion] = []
        self.known = Known()

    def release(
        self, day: str, models: dict[str, Prices], match: dict[str, dict[str, Any]] | None = None
    ) -> list[Line]:
        raw = [
            {
                "id": "p",
                "models": [
                    {"id": name, "match": (match or {}).get(name, {"equals": name}), "prices": prices}
                    for name, prices in models.items()
                ],
            }
        ]
        self.known, lines = fold(self.known, read_release(raw), instant(day))
        self.add(day, "genai-prices", lines)
        return lines

    def add(self, day: str, source: str, lines: list[Line]) -> None:
        previous = self.versions[-1].sha256 if self.versions else None
        header = Header(FORMAT, f"v{len(self.versions)}", instant(day), source, None, previous)
        self.versions.append(parse_card_file(render_card_file(header, lines)))

    def usd(
        self, model: str, day: str, version: str | None = None, context: dict[str, str] | None = None
    ) -> float | None:
        history = CardHistory(self.versions)
        card = history.latest if version is None else history.at(version)
        cost = card.price("p", model, {"tokens_in": 1_000_000}, instant(day), context or {})
        return None if cost.total_pico is None else cost.total_pico / 10**12


def dated(first: str, since: str, then: str) -> list[dict[str, Any]]:
    later = {"constraint": {"start_date": since}, "prices": {"input_mtok": then}}
    return [{"prices": {"input_mtok": first}}, later]


def instant(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def test_an_overwritten_price_holds_from_when_it_became_known() -> None:
    chain = Chain()
    chain.release("2025-07-01", {"m": {"input_mtok": "3"}})
    chain.release("2025-09-01", {"m": {"input_mtok": "2"}})
    assert chain.usd("m", "2024-01-01") == 3
    assert chain.usd("m", "2025-08-31T23:59:59.999999") == 3
    assert chain.usd("m", "2025-09-01") == 2
    assert chain.usd("m", "2025-10-01", version="v0") == 3


def test_a_dated_price_holds_from_its_date_whenever_it_was_learned() -> None:
    chain = Chain()
    chain.release("2025-07-01", {"m": {"input_mtok": "3"}})
    dated = [
        {"prices": {"input_mtok": "3"}},
        {"constraint": {"start_date": "2025-08-01"}, "prices": {"input_mtok": "2"}},
    ]
    chain.release("2025-09-01", {"m": dated})
    assert chain.usd("m", "2025-07-31T23:59:59") == 3
    assert chain.usd("m", "2025-08-01") == 2
    assert chain.usd("m", "2025-08-15", version="v0") == 3


def test_a_past_that_dates_bound_is_stated_and_prevails() -> None:
    chain = Chain()
    chain.release("2025-07-01", {"m": {"input_mtok": "3"}})
    dated = [
        {"prices": {"input_mtok": "4"}},
        {"constraint": {"start_date": "2025-08-01"}, "prices": {"input_mtok": "2"}},
    ]
    chain.release("2025-09-01", {"m": dated})
    assert chain.usd("m", "2025-06-01") == 4


def test_a_date_still_to_come_says_nothing_about_the_past() -> None:
    chain = Chain()
    chain.release("2025-07-01", {"m": {"input_mtok": "3"}})
    dated = [
        {"prices": {"input_mtok": "4"}},
        {"constraint": {"start_date": "2026-08-01"}, "prices": {"input_mtok": "2"}},
    ]
    chain.release("2025-09-01", {"m": dated})
    assert [chain.usd("m", day) for day in ("2025-08-31", "2025-09-01", "2026-08-01")] == [3, 4, 2]


def test_a_date_at_which_a_price_stays_is_no_statement_about_it() -> None:
    chain = Chain()
    chain.release("2025-07-01", {"m": {"input_mtok": "3"}})
    both = [
        {"prices": {"input_mtok": "2"}},
        {"constraint": {"start_date": "2025-08-01"}, "prices": {"input_mtok": "2", "web_searches_kcount": "10"}},
    ]
    chain.release("2025-09-01", {"m": both})
    assert [chain.usd("m", day) for day in ("2025-08-31", "2025-09-01")] == [3, 2]


def test_a_price_never_stated_before_holds_since_always() -> None:
    chain = Chain()
    chain.release("2025-07-01", {"m": {"output_mtok": "9"}})
    chain.release("2025-09-01", {"m": {"output_mtok": "9", "input_mtok": "2"}, "new": {"input_mtok": "7"}})
    assert chain.usd("m", "2024-01-01") == 2
    assert chain.usd("new", "2024-01-01") == 7
    assert chain.usd("new", "2025-09-02", version="v0") is None


def test_a_price_that_is_dropped_ends_and_what_it_fell_back_to_applies() -> None:
    chain = Chain()
    chain.release("2025-07-01", {"m": {"input_mtok": "3", "cache_read_mtok": "1"}})
    chain.release("2025-09-01", {"m": {"input_mtok": "3"}})
    card = CardHistory(chain.versions).latest
    totals = [
        card.price("p", "m", {"cache_read_tokens": 1_000_000}, instant(day)).total_pico
        for day in ("2025-08-31", "2025-09-01")
    ]
    assert totals == [10**12, 3 * 10**12]


def test_a_model_that_vanishes_keeps_its_rows() -> None:
    chain = Chain()
    chain.release("2025-07-01", {"m": {"input_mtok": "3"}, "n": {"input_mtok": "1"}})
    chain.release("2025-09-01", {"n": {"input_mtok": "1"}})
    assert chain.usd("m", "2025-10-01") == 3
    assert chain.versions[1].rates == ()
    chain.release("2025-11-01", {"n": {"input_mtok": "1"}, "m": {"input_mtok": "5"}})
    assert [chain.usd("m", day) for day in ("2025-10-01", "2025-11-01")] == [3, 5]


def test_a_renamed_model_takes_its_history_along() -> None:
    chain = Chain()
    chain.release("2025-07-01", {"m": {"input_mtok": "3"}}, {"m": {"starts_with": "m"}})
    chain.release("2025-09-01", {"m-001": {"input_mtok": "2"}}, {"m-001": {"starts_with": "m"}})
    assert [chain.usd("m-001", day) for day in ("2025-08-31", "2025-09-01")] == [3, 2]


def test_a_split_off_model_has_its_own_price_since_always() -> None:
    chain = Chain()
    chain.release("2025-07-01", {"m": {"input_mtok": "3"}}, {"m": {"starts_with": "m"}})
    chain.release("2025-09-01", {"m": {"input_mtok": "3"}, "m-lite": {"input_mtok": "1"}}, {"m": {"starts_with": "m"}})
    assert chain.usd("m-lite", "2025-08-01") == 1
    assert chain.usd("m-lite", "2025-09-02", version="v0") is None


def test_of_several_that_replace_an_id_the_one_with_its_name_goes_on() -> None:
    chain = Chain()
    chain.release("2025-07-01", {"m": {"input_mtok": "3"}}, {"m": {"starts_with": "m"}})
    chain.release(
        "2025-09-01",
        {"m-1": {"input_mtok": "1"}, "m-2": {"input_mtok": "2"}},
        {"m-2": {"or": [{"equals": "m"}, {"equals": "m-2"}]}},
    )
    assert [chain.usd(model, "2025-08-01") for model in ("m-1", "m-2", "m")] == [1, 3, 3]


def test_only_what_changed_is_written() -> None:
    chain = Chain()
    first = {"m": {"input_mtok": "3", "output_mtok": "6"}, "n": {"input_mtok": "1"}}
    chain.release("2025-07-01", first)
    assert chain.release("2025-08-01", first) == []
    lines = chain.release("2025-09-01", {**first, "m": {"input_mtok": "2", "output_mtok": "6"}})
    assert lines == [
        RateLine(
            provider="p",
            model="m",
            meter="tokens_in",
            per=1_000_000,
            price_pico=2 * 10**12,
            valid_from=instant("2025-09-01"),
        )
    ]


def test_what_is_known_is_the_same_read_from_files_as_folded() -> None:
    history = load_card_history()
    versions = [version for version in history.versions if version.header.source == "genai-prices"]
    chain = Chain()
    chain.release("2025-07-01", {"m": {"input_mtok": {"base": "3", "tiers": [{"start": 5, "price": "4"}]}}})
    chain.release("2025-09-01", {"m": {"input_mtok": "2"}})
    assert known_from(chain.versions, source="genai-prices").prices == chain.known.prices
    assert len(known_from(versions, source="genai-prices").models) > 2000


def test_rows_written_by_hand_outlive_what_the_source_says() -> None:
    chain = Chain()
    chain.release("2025-07-01", {"m": {"input_mtok": "3"}})
    ours = RateLine("p", "m", "tokens_in", 1_000_000, 33 * 10**11, {"inference_geo": "us"})
    chain.add(
        "2025-08-01",
        "tallystick",
        [ours, ModelLine("p", "own", {"equals": "own"}), AliasLine("p", "m", {"equals": "em"})],
    )
    chain.known = known_from(chain.versions, source="genai-prices")
    chain.release("2025-09-01", {"m": {"input_mtok": "2"}})
    assert chain.usd("m", "2025-10-01", context={"inference_geo": "us"}) == 3.3
    assert chain.usd("em", "2025-10-01") == 2
    assert chain.versions[-1].retired == ()


def test_floats_of_the_source_lose_their_binary_noise() -> None:
    chain = Chain()
    chain.release("2025-07-01", {"m": {"input_mtok": "0.18000000000000002"}})
    assert chain.versions[0].rates[0].price_pico == 180_000_000_000


def test_the_bundled_files_are_one_unbroken_chain() -> None:
    previous = None
    for content in read_card_files():
        version = parse_card_file(content)
        assert version.header.previous == previous
        previous = hashlib.sha256(content).hexdigest()
    named = sorted(entry.name for entry in (files("tallystick.rates") / "cards").iterdir())
    assert [name[:4] for name in named] == [f"{index:04d}" for index in range(1, len(named) + 1)]


def test_bundled_files_are_written_as_the_program_writes_them() -> None:
    for content in read_card_files():
        version = parse_card_file(content)
        lines = [*version.providers, *version.models, *version.aliases, *version.retired, *version.rates]
        assert render_card_file(version.header, lines) == content


@pytest.mark.parametrize("damage", ["changed", "missing", "doubled", "swapped"])
def test_a_damaged_chain_is_refused(damage: str) -> None:
    contents = read_card_files()
    if damage == "changed":
        contents[3] = contents[3] + contents[4].splitlines(keepends=True)[-1]
    elif damage == "missing":
        del contents[3]
    elif damage == "doubled":
        contents.insert(3, contents[3])
    else:
        contents[3], contents[4] = contents[4], contents[3]
    with pytest.raises(BadInput) as refused:
        CardHistory(parse_card_file(content) for content in contents)
    assert refused.value.code == "broken_card_chain"


def test_a_card_refreshed_here_keeps_its_place_when_a_later_release_brings_its_own(tmp_path: Path) -> None:
    *_, before, last = load_card_history().versions
    header = {"row": "card", "format": 1, "version": "refreshed-here", "known_at": "2026-12-01T00:00:00Z"}
    rest = {"source": "genai-prices", "source_sha256": None, "previous": before.sha256}
    (tmp_path / "0060-refreshed-here.jsonl").write_text(json.dumps({**header, **rest}) + "\n")
    names = [version.name for version in load_card_history(tmp_path).versions]
    assert names[-2:] == [before.name, "refreshed-here"]
    assert last.name not in names


def test_versions_are_found_by_name_only() -> None:
    history = load_card_history()
    assert history.at("genai-prices-0.2.3").version == "genai-prices-0.2.3"
    assert history.ordinal(history.latest.version) == len(history.versions) - 1
    with pytest.raises(NotFound):
        history.at("genai-prices-9")
    with pytest.raises(BadInput):
        CardHistory([])


def test_effective_rows_never_overlap_and_agree_with_the_price() -> None:
    card = load_card_history().latest
    model = Resolved("google", "gemini-2.5-pro")
    rows = [row for row, _ in card.effective(model) if row.meter == "cache_read_tokens" and not row.context]
    assert [row.price_pico for row in rows] == [310_000_000_000, 125_000_000_000]
    assert rows[0].valid_to == rows[1].valid_from
    for row, name in card.rows(model, instant("2025-09-24")):
        cost = card.price("google", "gemini-2.5-pro", {row.meter: 1}, instant("2025-09-24"), dict(row.context))
        assert cost.lines[0].price_pico == row.price_pico
        assert name.startswith("genai-prices")


def test_changes_between_versions_name_the_span_they_hold_for() -> None:
    chain = Chain()
    chain.release("2025-07-01", {"m": {"input_mtok": "3"}, "gone": {"input_mtok": "1"}})
    chain.release("2025-09-01", {"m": {"input_mtok": "2"}, "new": {"input_mtok": "1"}})
    changes = compare(chain.versions[:1], chain.versions)
    assert changes.models_added == (("p", "new"),)
    assert changes.models_retired == (("p", "gone"),)
    assert [(change.kind, change.key[1], change.since) for change in changes.prices] == [
        ("changed", "m", instant("2025-09-01")),
        ("added", "new", None),
    ]
    assert compare(chain.versions, chain.versions).prices == ()


class _AskedMeanwhile(tuple[RateLine, ...]):
    """Rows which another thread asks for while they are being read."""

    ask: Callable[[], None] | None = None

    def __iter__(self) -> Iterator[RateLine]:
        for line in super().__iter__():
            asked, self.ask = self.ask, None
            if asked is not None:
                thread = Thread(target=asked)
                thread.start()
                thread.join()
            yield line


def test_a_thread_that_asks_for_prices_while_they_are_being_read_gets_all_of_them() -> None:
    rates = _AskedMeanwhile(
        RateLine(provider="p", model=model, meter="tokens_in", per=1, price_pico=1) for model in ("a", "b")
    )
    card = CardVersion(
        Header(1, "v0", datetime(2026, 1, 1, tzinfo=UTC), "test", None, None), "0" * 64, (), (), (), (), rates
    )
    history = CardHistory([card])
    told = []
    rates.ask = lambda: told.append([len(history.lines(Resolved("p", model))) for model in ("a", "b")])
    assert len(history.lines(Resolved("p", "b"))) == 1
    assert told == [[1, 1]]
