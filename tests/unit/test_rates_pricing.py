"""Exact prices: cliffs, contexts, fallbacks, fees, minimums, the provider's own figure, and what is unknown."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tallystick.app.cards import load_card_history
from tallystick.rates.cardfile import RateLine
from tallystick.rates.lines import request_lines
from tallystick.rates.model import Cost, CostLine
from tallystick.rates.names import Resolved
from tallystick.rates.plan import compile_plan
from tallystick.usage.event import UsageEvent

CARD = load_card_history().latest
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
MTOK = 1_000_000


def usd(cost: Cost) -> float | None:
    return None if cost.total_pico is None else cost.total_pico / 10**12


def line(meter: str, price_pico: int | None, **more: object) -> RateLine:
    return RateLine(provider="p", model="m", meter=meter, per=more.pop("per", MTOK), price_pico=price_pico, **more)


def lines_for(
    rows: list[tuple[int, RateLine]], meters: dict[str, int], at: datetime = NOW, context=()
) -> list[CostLine]:
    return request_lines(compile_plan("p/m", rows, context).at(at), Resolved("p", "m"), meters, at)[0]


def test_lines_are_itemised_in_order_and_add_up() -> None:
    cost = CARD.price(
        "openai", "gpt-4o", {"tokens_out": 10, "cache_read_tokens": 4, "tokens_in": 100, "requests": 0}, NOW
    )
    assert [entry.meter for entry in cost.lines] == ["tokens_in", "cache_read_tokens", "tokens_out"]
    assert [entry.amount_pico for entry in cost.lines] == [250_000_000, 5_000_000, 100_000_000]
    assert cost.total_pico == 355_000_000
    assert (cost.provider, cost.model, cost.status, cost.reason) == ("openai", "gpt-4o", "final", None)
    assert cost.rate_version == CARD.version


def test_an_overwritten_price_stays_what_it_was() -> None:
    meters = {"tokens_in": 262_960 - 257_955, "cache_read_tokens": 257_955, "tokens_out": 1744}
    then = CARD.price("google", "gemini-2.5-pro", meters, datetime(2025, 9, 24, tzinfo=UTC))
    assert then.total_pico == 199_894_375_000
    today = CARD.price("google", "gemini-2.5-pro", meters, NOW)
    assert today.total_pico == 103_161_250_000


@pytest.mark.parametrize(("prompt", "pico_each"), [(200_000, 1_250_000), (200_001, 2_500_000)])
def test_a_cliff_prices_the_whole_request(prompt: int, pico_each: int) -> None:
    cost = CARD.price("google", "gemini-2.5-pro", {"tokens_in": prompt}, NOW)
    assert cost.total_pico == prompt * pico_each


def test_cached_tokens_count_towards_the_cliff() -> None:
    cost = CARD.price("google", "gemini-2.5-pro", {"tokens_in": 1, "cache_read_tokens": 200_000}, NOW)
    assert cost.lines[0].amount_pico == 2_500_000


def test_a_batch_costs_what_a_batch_costs_and_the_rest_is_standard() -> None:
    cost = CARD.price(
        "google", "gemini-2.5-flash", {"tokens_in": MTOK, "cache_read_tokens": MTOK}, NOW, {"service_tier": "batch"}
    )
    assert [entry.amount_pico for entry in cost.lines] == [150_000_000_000, 30_000_000_000]


@pytest.mark.parametrize("tier", ["standard", "default", "auto", "on_demand", "Standard", ""])
def test_standard_tiers_are_no_context(tier: str) -> None:
    assert usd(CARD.price("openai", "gpt-5", {"tokens_in": MTOK}, NOW, {"service_tier": tier})) == 1.25


@pytest.mark.parametrize(
    ("model", "at", "context"),
    [
        ("gpt-5", datetime(2025, 9, 1, tzinfo=UTC), {"service_tier": "batch"}),  # the price was not known then
        ("gpt-5", NOW, {"service_tier": "gold"}),
        ("gpt-5", NOW, {"speed": "fast"}),
        ("gpt-4o", NOW, {"service_tier": "flex"}),
    ],
)
def test_an_unknown_tier_is_unpriced_and_never_standard(model: str, at: datetime, context: dict[str, str]) -> None:
    cost = CARD.price("openai", model, {"tokens_in": 5}, at, context)
    assert (cost.status, cost.total_pico, cost.lines[0].amount_pico) == ("unpriced", None, None)
    (key, value) = next(iter(context.items()))
    assert f"{key} {value}" in (cost.reason or "")


def test_inference_in_the_us_costs_a_tenth_more_on_every_token() -> None:
    meters = {
        "tokens_in": MTOK,
        "cache_read_tokens": MTOK,
        "cache_write_5m_tokens": MTOK,
        "tokens_out": MTOK,
        "web_searches": 1000,
    }
    cost = CARD.price("anthropic", "claude-opus-4-7", meters, NOW, {"inference_geo": "us"})
    assert {entry.meter: (entry.amount_pico or 0) // 10**9 for entry in cost.lines} == {
        "tokens_in": 5500,
        "cache_read_tokens": 550,
        "cache_write_5m_tokens": 6875,
        "tokens_out": 27500,
        "web_searches": 10_000,
    }


@pytest.mark.parametrize(
    ("model", "context", "expected"),
    [
        ("claude-opus-4-7", {"inference_geo": "us", "service_tier": "batch"}, 2.75),
        ("claude-opus-4-7", {"inference_geo": "global"}, 5),
        ("claude-opus-4-5", {"inference_geo": "not_available"}, 5),
        ("claude-opus-4-5", {"inference_geo": "us"}, None),  # that model cannot be held to a place
    ],
)
def test_where_inference_ran_decides_the_price(model: str, context: dict[str, str], expected: float | None) -> None:
    assert usd(CARD.price("anthropic", model, {"tokens_in": MTOK}, NOW, context)) == expected


def test_classes_without_a_price_cost_what_they_fall_back_to() -> None:
    cost = CARD.price(
        "openai", "gpt-4o", {"reasoning_tokens": MTOK, "image_tokens_in": MTOK, "tool_prompt_tokens": MTOK}, NOW
    )
    assert {entry.meter: (entry.amount_pico or 0) / 10**12 for entry in cost.lines} == {
        "reasoning_tokens": 10,
        "image_tokens_in": 2.5,
        "tool_prompt_tokens": 2.5,
    }
    hour = CARD.price("anthropic", "claude-opus-4-7", {"cache_write_tokens": MTOK, "cache_write_1h_tokens": MTOK}, NOW)
    assert [entry.amount_pico for entry in hour.lines] == [6_250_000_000_000, 10_000_000_000_000]


def test_a_fee_per_request_is_due_once_when_anything_was_served() -> None:
    rows = [(0, line("tokens_in", 10**12)), (0, line("requests", 5 * 10**12, per=1000))]
    assert [entry.meter for entry in lines_for(rows, {"tokens_in": 10})] == ["tokens_in", "requests"]
    assert lines_for(rows, {"tokens_in": 10})[1].amount_pico == 5 * 10**9
    assert lines_for(rows, {"tokens_in": 10, "requests": 3})[1].amount_pico == 15 * 10**9
    assert lines_for(rows, {"tokens_in": 0}) == []
    assert [entry.meter for entry in lines_for(rows, {"tool_calls": 1})] == ["tool_calls"]


@pytest.mark.parametrize(("spoken_ms", "billed_ms"), [(1, 10_000), (10_000, 10_000), (3_600_000, 3_600_000)])
def test_a_transcription_is_billed_for_ten_seconds_at_least(spoken_ms: int, billed_ms: int) -> None:
    cost = CARD.price("groq", "whisper-large-v3", {"audio_in_ms": spoken_ms}, NOW)
    assert cost.lines[0].quantity == billed_ms
    assert cost.total_pico == round(billed_ms * 111_000_000_000 / 3_600_000)


def test_amounts_finer_than_a_pico_are_rounded_half_to_even() -> None:
    assert [lines_for([(0, line("tokens_in", 1, per=2))], {"tokens_in": n})[0].amount_pico for n in (1, 2, 3, 5)] == [
        0,
        1,
        2,
        2,
    ]


def test_what_no_provider_bills_costs_nothing() -> None:
    cost = CARD.price(
        "openai", "gpt-4o", {"tokens_in": 1, "tool_calls": 3, "egress_bytes": 9, "documents_reviewed": 2}, NOW
    )
    assert cost.status == "final"
    assert [(entry.price_pico, entry.per, entry.amount_pico) for entry in cost.lines[1:]] == [(0, 1, 0)] * 3


def test_a_billed_meter_without_a_rate_leaves_the_event_unpriced() -> None:
    cost = CARD.price("openai", "gpt-4o", {"tokens_in": 1, "pages_in": 2}, NOW)
    assert (cost.status, cost.total_pico) == ("unpriced", None)
    assert cost.lines[0].amount_pico == 2_500_000
    assert cost.lines[1] == CostLine("pages_in", 2, None, None, None)
    assert "pages_in" in (cost.reason or "")


def test_an_unknown_model_is_unpriced_also_when_nothing_was_used_that_a_provider_bills() -> None:
    for meters in ({}, {"tokens_in": 0}, {"tool_calls": 3}):
        cost = CARD.price("openai", "gpt-9", meters, NOW)
        assert (cost.status, cost.total_pico) == ("unpriced", None)
        assert cost.reason


def test_an_unknown_model_is_unpriced_with_a_reason() -> None:
    cost = CARD.price("openai", "gpt-9", {"tokens_in": 1}, NOW)
    assert (cost.status, cost.provider, cost.model) == ("unpriced", "openai", "gpt-9")
    assert "gpt-9" in (cost.reason or "")


def test_work_without_a_provider_costs_nothing_but_tokens_are_never_free() -> None:
    tool = CARD.price(None, "my-tool", {"tool_calls": 2, "web_searches": 1}, NOW)
    assert (tool.status, tool.total_pico, tool.provider) == ("final", 0, None)
    assert CARD.price(None, "my-model", {"tokens_in": 2}, NOW).status == "unpriced"
    assert usd(CARD.price(None, "gpt-4o", {"tokens_in": MTOK}, NOW)) == 2.5


@pytest.mark.parametrize("status", ["final", "partial", "estimated"])
def test_the_status_is_how_sure_the_usage_is(status: str) -> None:
    assert CARD.price("openai", "gpt-4o", {"tokens_in": 1}, NOW, {}, status).status == status
    assert CARD.price("openai", "gpt-9", {"tokens_in": 1}, NOW, {}, status).status == "unpriced"


def test_the_providers_own_figure_prevails() -> None:
    cost = CARD.price("openai", "gpt-4o", {"tokens_in": 100}, NOW, provider_cost_pico=300_000_000)
    assert [(entry.meter, entry.amount_pico) for entry in cost.lines] == [
        ("tokens_in", 250_000_000),
        ("provider_cost_adjustment", 50_000_000),
    ]
    assert cost.total_pico == 300_000_000
    same = CARD.price("openai", "gpt-4o", {"tokens_in": 100}, NOW, provider_cost_pico=250_000_000)
    assert len(same.lines) == 1
    lower = CARD.price("openai", "gpt-4o", {"tokens_in": 100}, NOW, provider_cost_pico=0)
    assert lower.lines[-1].amount_pico == -250_000_000
    unknown = CARD.price("openrouter", "no/model", {"tokens_in": 100}, NOW, provider_cost_pico=7)
    assert (unknown.status, unknown.total_pico, unknown.reason) == ("final", 7, None)
    assert sum(entry.amount_pico or 0 for entry in unknown.lines) == 7


def test_parts_keep_their_own_prompt_sizes_and_models() -> None:
    parts = [
        (None, {"tokens_in": 150_000, "tokens_out": 10}),
        (None, {"tokens_in": 150_000, "tokens_out": 10}),
        ("claude-opus-4-7", {"tokens_in": 10}),
    ]
    cost = CARD.price_parts("anthropic", "claude-sonnet-4-5", parts, NOW)
    assert [(entry.model, entry.meter, entry.quantity, entry.amount_pico) for entry in cost.lines] == [
        (None, "tokens_in", 300_000, 900_000_000_000),
        (None, "tokens_out", 20, 300_000_000),
        ("claude-opus-4-7", "tokens_in", 10, 50_000_000),
    ]
    assert cost.total_pico == 900_350_000_000
    assert cost.model == "claude-sonnet-4-5"
    one = CARD.price("anthropic", "claude-sonnet-4-5", {"tokens_in": 300_000, "tokens_out": 20}, NOW)
    assert (one.total_pico or 0) > cost.total_pico


def test_parts_with_an_unknown_model_are_unpriced_as_a_whole() -> None:
    cost = CARD.price_parts("anthropic", "claude-sonnet-4-5", [(None, {"tokens_in": 1}), ("x", {"tokens_in": 1})], NOW)
    assert (cost.status, cost.total_pico) == ("unpriced", None)
    assert "'x'" in (cost.reason or "")


def test_price_event_reads_everything_from_the_event() -> None:
    event = UsageEvent(
        org_id="o", request_id="r", time=NOW, user_id="u", session_id="s", feature="f", environment="e",
        model="gpt-5", provider="openai", meters={"tokens_in": MTOK}, price_context={"service_tier": "batch"},
        usage_status="partial",
    )  # fmt: skip
    cost = CARD.price_event(event)
    assert (usd(cost), cost.status) == (0.625, "partial")


def test_times_of_day_have_their_own_price() -> None:
    day, night = (NOW.replace(month=12, hour=hour) for hour in (12, 20))
    rows = [(0, line("tokens_in", 10**12)), (0, line("tokens_in", 5 * 10**11, window="16:30-00:30"))]
    assert [lines_for(rows, {"tokens_in": 1}, at)[0].price_pico for at in (day, night)] == [10**12, 5 * 10**11]
    assert lines_for(rows, {"tokens_in": 1}, night.replace(hour=0, minute=29))[0].price_pico == 5 * 10**11
    assert lines_for(rows, {"tokens_in": 1}, night.replace(hour=0, minute=30))[0].price_pico == 10**12


def test_a_later_version_prevails_where_both_are_valid() -> None:
    cut = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        (0, line("tokens_in", 1)),
        (1, line("tokens_in", 2, valid_from=cut)),
        (2, line("tokens_in", None, valid_from=NOW)),
    ]
    rows.append((0, line("requests", 1)))
    assert lines_for(rows, {"tokens_in": 1}, datetime(2025, 12, 31, tzinfo=UTC))[0].price_pico == 1
    assert lines_for(rows, {"tokens_in": 1}, cut)[0].price_pico == 2
    assert lines_for(rows, {"tokens_in": 1}, NOW)[0].price_pico is None


def test_contexts_that_contradict_each_other_have_no_price() -> None:
    rows = [
        (0, line("tokens_in", 1)),
        (0, line("tokens_in", 2, context={"a": "x"})),
        (0, line("tokens_in", 3, context={"b": "y"})),
    ]
    both = (("a", "x"), ("b", "y"))
    assert compile_plan("p/m", rows, both).at(NOW).refusal is not None
    rows.append((0, line("tokens_in", 4, context={"a": "x", "b": "y"})))
    assert lines_for(rows, {"tokens_in": 1}, NOW, both)[0].price_pico == 4


def test_naming_many_models_does_not_fill_the_memory() -> None:
    card = load_card_history().latest
    card._shapes = {("p", str(n), (), ()): None for n in range(50_000)}
    card.price("openai", "gpt-4o", {"tokens_in": 1}, NOW)
    assert len(card._shapes) == 1
