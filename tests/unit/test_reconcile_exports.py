"""Each form of export is read exactly: no figure counted twice, none guessed, none read as a float."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest

from provider_exports import bucket, cost, page, result, seconds, text
from tallystick.core.errors import BadInput
from tallystick.reconcile.files import read_table
from tallystick.reconcile.model import Export, ExportRow
from tallystick.reconcile.reading import read_export

DAY = date(2026, 10, 9)
BEGIN = seconds(DAY)
PICO = 10**12


def read(provider: str, *contents: object, models_of: dict[str, str] | None = None) -> Export:
    files = [
        (f"file{number}", one if isinstance(one, bytes) else one.encode() if isinstance(one, str) else text(one))
        for number, one in enumerate(contents)
    ]
    return read_export(provider, files, models_of or {})


def only(export: Export) -> ExportRow:
    (row,) = export.rows
    return row


def refused(provider: str, content: object) -> str:
    with pytest.raises(BadInput) as caught:
        read(provider, content)
    return caught.value.code


def of_day(*rows: dict[str, Any]) -> dict[str, Any]:
    return page([bucket(BEGIN, BEGIN + 86_400, list(rows))])


# ── OpenAI ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_openai_input_includes_cached_and_audio_tokens_and_each_is_counted_once() -> None:
    used = {"input_tokens": 1000, "input_cached_tokens": 300, "input_audio_tokens": 200, "output_tokens": 90}
    row = only(read("openai", of_day(result("gpt-4o", **used, output_audio_tokens=40, num_model_requests=5))))
    assert dict(row.quantities) == {
        "tokens_in": 500,
        "cache_read_tokens": 300,
        "audio_tokens_in": 200,
        "tokens_out": 50,
        "audio_tokens_out": 40,
    }
    assert (row.requests, row.model, row.tier, row.day) == (5, "gpt-4o", None, DAY)
    assert row.end - row.start == timedelta(days=1)


def test_openai_cached_audio_overlaps_by_what_is_stated_or_the_least_that_fits() -> None:
    stated = result("a", input_tokens=100, input_cached_tokens=60, input_audio_tokens=50, input_cached_audio_tokens=20)
    assert dict(only(read("openai", of_day(stated))).quantities)["audio_tokens_in"] == 30
    fitted = result("a", input_tokens=100, input_cached_tokens=60, input_audio_tokens=50)
    quantities = only(read("openai", of_day(fitted))).quantities
    assert (quantities["tokens_in"], quantities["cache_read_tokens"], quantities["audio_tokens_in"]) == (0, 60, 40)


@pytest.mark.parametrize(
    "used",
    [
        {"input_tokens": 10, "input_cached_tokens": 11},
        {"output_tokens": 1, "output_audio_tokens": 2},
        {"input_tokens": -1},
        {"input_tokens": "#1.5#"},
        {"input_tokens": True},
        {"input_tokens": "#1e500#"},
        {"input_tokens": "many"},
    ],
)
def test_openai_figures_that_cannot_be_are_refused(used: dict[str, object]) -> None:
    assert refused("openai", of_day(result("a", **used))) == "invalid_export"


def test_openai_tiers_and_whose_they_are() -> None:
    rows = [
        result("a", batch=True, project_id="p", api_key_id="k"),
        result("a", service_tier="flex"),
        result("a", batch=False, service_tier="default"),
    ]
    assert [(row.tier, row.project, row.api_key) for row in read("openai", of_day(*rows)).rows] == [
        ("batch", "p", "k"), ("flex", None, None), (None, None, None),
    ]  # fmt: skip


def test_openai_other_work_is_read_by_its_own_units() -> None:
    rows = [
        {"object": "organization.usage.embeddings.result", "input_tokens": 16, "num_model_requests": 2, "model": "e"},
        {
            "object": "organization.usage.images.result",
            "images": 3,
            "num_model_requests": 2,
            "size": "1x1",
            "model": "i",
        },
        {"object": "organization.usage.audio_speeches.result", "characters": 45, "num_model_requests": 1, "model": "s"},
        {
            "object": "organization.usage.audio_transcriptions.result",
            "seconds": "#20.5#",
            "num_model_requests": 1,
            "model": "t",
        },
        {"object": "organization.usage.vector_stores.result", "usage_bytes": 1024},
    ]
    export = read("openai", of_day(*rows))
    assert [dict(row.quantities) for row in export.rows] == [
        {"tokens_in": 16, "cache_read_tokens": 0, "audio_tokens_in": 0},
        {"images_generated": 3},
        {"characters_in": 45},
        {"audio_ms": 20_500},
    ]
    assert len(export.notes) == 1


@pytest.mark.parametrize(
    ("value", "pico"),
    [
        ("#0.06#", 60_000_000_000),
        ("#0.06000000000000000001#", Fraction(6 * 10**18 + 1, 10**8)),
        ("1.25", 1_250_000_000_000),
        ("#1E-7#", 100_000),
        (-2, -2 * PICO),
    ],
)
def test_openai_costs_are_decimals_to_the_last_digit(value: object, pico: Fraction) -> None:
    assert only(read("openai", of_day(cost("gpt-4o, input", value)))).cost_pico == pico  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("item", "model", "of", "tier"),
    [
        ("gpt-4o-2024-08-06, input", "gpt-4o-2024-08-06", "tokens_in", None),
        ("gpt-4o-2024-08-06, cached input", "gpt-4o-2024-08-06", "cache_read_tokens", None),
        ("ft:gpt-4o:acme, inc::x, output", "ft:gpt-4o:acme, inc::x", "tokens_out", None),
        ("gpt-4o, batch output", "gpt-4o", "tokens_out", "batch"),
        ("gpt-4o, input (batch)", "gpt-4o", "tokens_in", "batch"),
        ("gpt-4o-audio-preview, audio output", "gpt-4o-audio-preview", "audio_tokens_out", None),
        ("gpt-4o, something new", "gpt-4o", None, None),
        ("web search", None, None, None),
        (None, None, None, None),
    ],
)
def test_openai_line_items(item: str | None, model: str | None, of: str | None, tier: str | None) -> None:
    row = only(read("openai", of_day(cost(item, 1))))
    assert (row.model, row.cost_of, row.tier, row.item) == (model, of, tier, item)


def test_openai_csv_has_the_same_fields() -> None:
    usage = (
        "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,model,batch,input_tokens,"
        "output_tokens,input_cached_tokens\r\n"
        f'{BEGIN},{BEGIN + 86_400},2026-10-09T00:00:00+00:00,2026-10-10T00:00:00+00:00,"p",3,gpt-4o,False,'
        '"100",7,40\r\n'
    )
    row = only(read("openai", "\ufeff" + usage))
    assert (row.quantities["tokens_in"], row.quantities["cache_read_tokens"], row.requests) == (60, 40, 3)
    costs = (
        "start_time;end_time;amount_value;amount_currency;line_item;project_id\n"
        '2026-10-09 00:00:00;2026-10-10 00:00:00;0.0600;usd;"gpt-4o, output";\n'
    )
    row = only(read("openai", costs))
    assert (row.cost_pico, row.step_pico, row.cost_of, row.project) == (
        6 * PICO // 100,
        PICO // 10_000,
        "tokens_out",
        None,
    )


# ── Anthropic ───────────────────────────────────────────────────────────────────────────────────────────────────────


def anthropic(*rows: dict[str, Any], has_more: bool = False) -> dict[str, Any]:
    one = {"starting_at": "2026-10-09T00:00:00Z", "ending_at": "2026-10-10T00:00:00Z", "results": list(rows)}
    return {"data": [one], "has_more": has_more, "next_page": None}


def test_anthropic_usage_comes_apart() -> None:
    row = only(
        read(
            "anthropic",
            anthropic(
                {
                    "uncached_input_tokens": 1500,
                    "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
                    "cache_read_input_tokens": 200,
                    "output_tokens": 500,
                    "server_tool_use": {"web_search_requests": 10},
                    "api_key_id": "apikey_1",
                    "workspace_id": "wrkspc_1",
                    "model": "claude-sonnet-4-20250514",
                    "service_tier": "batch",
                    "context_window": "0-200k",
                }
            ),
        )
    )
    assert dict(row.quantities) == {
        "tokens_in": 1500,
        "cache_read_tokens": 200,
        "tokens_out": 500,
        "cache_write_5m_tokens": 500,
        "cache_write_1h_tokens": 1000,
        "web_searches": 10,
    }
    assert (row.tier, row.project, row.api_key, row.requests) == ("batch", "wrkspc_1", "apikey_1", None)


def test_anthropic_amounts_are_in_cents() -> None:
    row = only(
        read(
            "anthropic",
            anthropic(
                {
                    "currency": "USD",
                    "amount": "123.78912",
                    "workspace_id": None,
                    "description": "Claude Sonnet 4 Usage - Output Tokens",
                    "cost_type": "tokens",
                    "model": "claude-sonnet-4-20250514",
                    "service_tier": "standard",
                    "token_type": "cache_creation.ephemeral_1h_input_tokens",
                }
            ),
        )
    )
    assert (row.cost_pico, row.step_pico) == (1_237_891_200_000, 100_000)
    assert (row.cost_of, row.tier) == ("cache_write_1h_tokens", None)


def test_anthropic_csv_of_the_console() -> None:
    csv = (
        "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
        "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
        "usage_output_tokens,web_search_count\n2026-10-09,claude-opus-4-1,key,Default,standard,,5,4,3,2,1,0\n"
    )
    row = only(read("anthropic", csv))
    assert [row.quantities[name] for name in ("tokens_in", "cache_write_5m_tokens", "cache_write_1h_tokens")] == [
        5,
        4,
        3,
    ]
    costs = "usage_date_utc,model,cost_type,token_type,cost_usd\n2026-10-09,claude-opus-4-1,tokens,output_tokens,1.50\n"
    assert only(read("anthropic", costs)).cost_pico == 1_500_000_000_000


# ── others ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_any_provider_in_the_generic_form() -> None:
    export = read(
        "groq",
        "date,model,meter,quantity,cost_usd,requests\n2026-10-09,m,tokens_in,100,0.05,\n2026-10-09,m,tokens_out,7,,\n2026-10-09,m,,,,4\n",
    )
    assert [(dict(row.quantities), row.cost_of, row.requests) for row in export.rows] == [
        ({"tokens_in": 100}, "tokens_in", None), ({"tokens_out": 7}, "tokens_out", None), ({}, None, 4),
    ]  # fmt: skip
    lines = [{"date": "2026-10-09", "model": "m", "meter": "pages_in", "quantity": 3, "cost_usd": "0.1"}] * 2
    assert len(read("mistral", "\n".join(map(json.dumps, lines))).rows) == 2
    assert len(read("openai", "date,model,requests\n2026-10-09,m,4\n").rows) == 1
    assert refused("groq", "date,model,meter,quantity\n2026-10-09,m,tokens,5\n") == "unknown_export_meter"
    for row in ("2026-10-09,,tokens_in,5", "2026-13-09,m,tokens_in,5", "2026-10-09,m,,5", "2026-10-09,m,tokens_in,"):
        assert refused("groq", f"date,model,meter,quantity\n{row}\n") == "invalid_export"


def test_google_billing_names_skus_and_the_operator_names_their_models() -> None:
    rows = [
        {
            "service": {"id": "x", "description": "Vertex AI"},
            "sku": {"id": "A-1", "description": "Gemini 2.5 Flash Text Output"},
            "usage_start_time": f"2026-10-09 {hour:02}:00:00 UTC",
            "usage_end_time": f"2026-10-09 {hour + 1:02}:00:00 UTC",
            "project": {"id": "shop"},
            "cost": "#0.000123#",
            "currency": "USD",
            "credits": [{"name": "free", "amount": -1}],
        }
        for hour in (3, 4)
    ]
    jsonl = b"\n".join(map(text, rows))
    export = read("google", jsonl, models_of={"Gemini 2.5 Flash Text Output": "gemini-2.5-flash"})
    assert [(row.model, row.cost_pico, row.project) for row in export.rows] == [
        ("gemini-2.5-flash", 123_000_000, "shop")
    ] * 2
    assert export.days() == [DAY]
    assert not export.missing_of(DAY)
    flat = "sku.description,usage_start_time,cost,currency\nX,2026-10-09T00:00:00Z,1.5,USD\n"
    assert only(read("google", flat)).item == "X"
    with pytest.raises(BadInput) as caught:
        read("google", jsonl, models_of={"Other": "m"})
    assert caught.value.code == "unmatched_item"


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pages_are_joined_however_they_were_put_together() -> None:
    days = [
        of_day(result("a", num_model_requests=1)),
        page([bucket(BEGIN + 86_400, BEGIN + 172_800, [])], has_more=True),
    ]
    joined = [
        json.dumps(days),
        "\n".join(map(json.dumps, days)),
        "".join(json.dumps(one, indent=2) for one in days),
        json.dumps([*days[0]["data"], *days[1]["data"]]),
    ]
    for content in joined:
        export = read("openai", content)
        assert (len(export.rows), export.days()) == (1, [DAY, DAY + timedelta(days=1)])
    assert "has_more" in read("openai", joined[0]).notes[0]
    assert read("openai", json.dumps(list(reversed(days)))).notes == []
    assert len(read("openai", *days).rows) == 1


def test_how_much_of_a_day_is_missing() -> None:
    hours = [bucket(BEGIN + 3600 * hour, BEGIN + 3600 * (hour + 1), []) for hour in (0, 1, 5, 23)]
    export = read("openai", page([*hours, bucket(BEGIN + 1800, BEGIN + 5400, [])]))
    assert export.missing_of(DAY) == timedelta(hours=20)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_export"),
        (b" \n", "invalid_export"),
        (b"\xff\xfe", "invalid_utf8"),
        (b"{", "malformed_json"),
        (b"[1", "malformed_json"),
        (b"[1]", "invalid_export"),
        (b'{"data": 1}', "invalid_export"),
        (b'{"data": [1]}', "invalid_export"),
        (b'{"data": [{"start_time": 1, "end_time": 2, "results": []}]}', "invalid_export"),
        (b'{"data": [], "data": []}', "duplicate_key"),
        (b'{"a": NaN}', "invalid_export"),
        (b"[" * 100_000, "malformed_json"),
        (b"a,b\n1\n", "invalid_export"),
        (b'a,b\n"1,2\n', "invalid_export"),
        (b"a,a\n1,2\n", "invalid_export"),
        (b'{"data": []}', "invalid_export"),
        (b'{"error": {"message": "no"}}', "invalid_export"),
    ],
)
def test_what_is_no_export_is_refused(content: bytes, code: str) -> None:
    assert refused("openai", content) == code


def test_what_cannot_be_told_apart_by_day_or_is_not_in_usd_is_refused() -> None:
    assert refused("openai", page([bucket(BEGIN, BEGIN + 2 * 86_400, [])])) == "bucket_too_long"
    assert refused("openai", page([bucket(BEGIN + 3600, BEGIN + 90_000, [])])) == "bucket_too_long"
    euros = cost("gpt-4o, input", 1)
    euros["amount"]["currency"] = "eur"
    assert refused("openai", of_day(euros)) == "unknown_currency"


def test_fields_that_nobody_reads_are_named() -> None:
    export = read("openai", of_day(result("a", num_model_requests=1, input_smell_tokens=5, nothing=None, zero=0)))
    assert export.notes == ["file0: nobody reads its input_smell_tokens"]


def test_seconds_dates_and_instants_are_one() -> None:
    table = read_table(b"start_time\n2026-10-09\n", "x")
    assert table.lines == [("x, line 2", {"start_time": "2026-10-09"})]
    for start in (
        str(BEGIN),
        "2026-10-09",
        "2026-10-09T00:00:00Z",
        "2026-10-09 00:00:00 UTC",
        "2026-10-09T02:00:00+02:00",
    ):
        row = only(read("openai", f"start_time,model,num_model_requests\n{start},m,1\n"))
        assert row.start == datetime(2026, 10, 9, tzinfo=UTC)
