"""`tally cost` from end to end: one answer, JSON Lines, streams, envelopes, and input of every bad kind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tally_processes import run_tally
from tallystick.app.cards import load_card_history

AT = "2026-08-15T00:00:00Z"
LATER = "2026-11-01T00:00:00Z"
"""When prices of batches are known for every model used here."""
BODY = {
    "model": "claude-sonnet-4-5-20250929",
    "usage": {
        "input_tokens": 10,
        "cache_read_input_tokens": 400,
        "cache_creation_input_tokens": 20,
        "output_tokens": 5,
        "server_tool_use": {"web_search_requests": 1},
    },
}
CHAT = {"model": "gpt-4o", "usage": {"prompt_tokens": 10, "completion_tokens": 5}}


def tally_cost(*arguments: str | Path, stdin: bytes = b"", before: str = "") -> subprocess.CompletedProcess[bytes]:
    if not before:
        done = run_tally("cost", *arguments, stdin=stdin)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.encode(), done.stderr.encode())
    program = f"{before}\nfrom tallystick.cli.main import main; main()"
    command = [sys.executable, "-c", program, "cost", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def priced(stdin: Any, *arguments: str, at: str = AT) -> list[dict[str, Any]]:
    text = stdin if isinstance(stdin, bytes) else "\n".join(map(json.dumps, stdin)).encode()
    done = tally_cost("-", "--at", at, "--json", *arguments, stdin=text)
    assert b"Traceback" not in done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_one_answer_prints_usage_lines_sum_version_and_status_for_a_person(tmp_path: Path) -> None:
    file = tmp_path / "answer.json"
    file.write_text(json.dumps(BODY, indent=2))
    done = tally_cost(file, "--at", AT)
    text = done.stdout.decode()
    assert done.returncode == 0
    for word in ("anthropic", "claude-sonnet-4-5-20250929", "cache_read_tokens", "400", "$0.00012", "final"):
        assert word in text
    assert "$0.0103" in text
    assert load_card_history().latest.version in text


def test_a_models_name_from_outside_commands_neither_the_table_nor_the_terminal() -> None:
    sampling = {"type": "advisor_message", "model": "[/bold] \u001b[31m", "input_tokens": 1, "output_tokens": 1}
    usage = {"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 0, "iterations": [sampling]}
    done = tally_cost("-", stdin=json.dumps({"model": "claude-\u001b[2J", "usage": usage}).encode())
    assert done.returncode == 0
    assert b"\x1b[" not in done.stdout
    assert b"[/bold]" in done.stdout


def test_one_answer_as_json_has_exact_decimal_strings_that_add_up() -> None:
    (answer,) = priced(json.dumps(BODY, indent=2).encode())
    assert answer["usage"] == {
        "tokens_in": 10,
        "cache_read_tokens": 400,
        "cache_write_tokens": 20,
        "tokens_out": 5,
        "web_searches": 1,
    }
    assert answer["lines"][0] == {
        "meter": "tokens_in",
        "quantity": 10,
        "rate_usd": "3",
        "per": 1_000_000,
        "amount_usd": "0.00003",
    }
    assert (answer["provider"], answer["flavor"], answer["status"]) == ("anthropic", "default", "final")
    assert answer["cost_usd"] == "0.0103"
    assert answer["rate_version"] == load_card_history().latest.version


def test_lines_are_answered_in_order_with_errors_in_their_place_and_exit_code_1() -> None:
    lines = [
        json.dumps(CHAT),
        "",
        '{"model": "gpt-4o", "usage": {"prompt_tokens": -1, "completion_tokens": 5}}',
        '{"truncated": ',
        '{"error": {"message": "no such model"}}',
        json.dumps(BODY),
    ]
    done = tally_cost("-", "--at", AT, stdin="\r\n".join(lines).encode())
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [answer.get("cost_usd") for answer in answers] == ["0.000075", None, None, None, "0.0103"]
    errors = [answer["error"] for answer in answers[1:4]]
    assert [(error["line"], error["code"]) for error in errors] == [
        (3, "invalid_quantity"),
        (4, "malformed_json"),
        (5, "provider_error"),
    ]
    assert errors[0]["where"] == "usage.prompt_tokens"
    assert all(error["detail"] and error["next_step"] for error in errors)


def test_a_first_line_that_is_broken_does_not_harm_the_next() -> None:
    first, second = priced(b'{"model": \n' + json.dumps(CHAT).encode())
    assert first["error"]["line"] == 1
    assert second["cost_usd"] == "0.000075"


@pytest.mark.parametrize("lines", [b"no json\nnor this\n", b'{"a": 1,}\n{"b":}\n'])
def test_lines_that_are_all_broken_are_each_told_so_in_their_place(lines: bytes) -> None:
    done = tally_cost("-", stdin=lines)
    assert done.returncode == 1
    assert [json.loads(line)["error"]["line"] for line in done.stdout.splitlines()] == [1, 2]


def test_a_broken_body_over_many_lines_is_one_error() -> None:
    done = tally_cost("-", stdin=b'{\n "model": "gpt-4o",\n "usage": }\n')
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"[malformed_json]" in done.stderr


def test_an_unknown_model_is_unpriced_with_a_reason_and_never_zero() -> None:
    for body in (
        {"model": "gpt-9000", "usage": {"prompt_tokens": 10, "completion_tokens": 5}},
        {"model": "gpt-9000", "usage": {"prompt_tokens": 0, "completion_tokens": 0}},
    ):
        (answer,) = priced([body])
        assert (answer["status"], answer["cost_usd"]) == ("unpriced", None)
        assert "gpt-9000" in answer["reason"]


def test_an_answer_that_does_not_name_its_model_is_priced_once_it_is_named() -> None:
    body = {"usage": {"inputTokens": 1000, "outputTokens": 100}}
    (answer,) = priced([body])
    assert (answer["provider"], answer["status"]) == ("aws", "unpriced")
    assert "--model" in answer["reason"]
    (answer,) = priced([body], "--model", "amazon.nova-lite-v1:0")
    assert answer["status"] == "final"
    assert answer["cost_usd"] == "0.000084"


def test_the_instant_decides_which_prices_apply() -> None:
    body = {
        "modelVersion": "gemini-2.5-pro",
        "usageMetadata": {
            "promptTokenCount": 262_960,
            "cachedContentTokenCount": 257_955,
            "candidatesTokenCount": 1_744,
        },
    }
    done = tally_cost("-", "--json", "--at", "2025-09-24", stdin=json.dumps(body).encode())
    assert json.loads(done.stdout)["cost_usd"] == "0.199894375"


def test_a_regional_answer_costs_its_surcharge_and_a_batch_its_discount() -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 0, "cache_read_input_tokens": 0}
    message = {"model": "claude-sonnet-4-6", "usage": usage}
    local = {"model": "claude-sonnet-4-6", "usage": {**usage, "inference_geo": "us"}}
    lines = [message, local, {"custom_id": "a", "result": {"type": "succeeded", "message": message}}]
    anywhere, regional, batch = priced(lines, at=LATER)
    assert (anywhere["cost_usd"], regional["cost_usd"], batch["cost_usd"]) == ("3", "3.3", "1.5")
    assert regional["price_context"] == {"inference_geo": "us"}
    assert batch["price_context"] == {"service_tier": "batch"}


def test_envelopes_say_more_than_the_answer_and_prevail_over_the_command_line() -> None:
    rows = [
        {"body": CHAT, "provider": "azure", "at": "2026-01-01", "note": "let through"},
        {"body": json.dumps(CHAT)},
        {"body": {"usage": {"inputTokens": 1, "outputTokens": 1}}, "request": {"model": "amazon.nova-lite-v1:0"}},
        {"body": CHAT, "price_context": {"service_tier": "batch"}},
        {"custom_id": "x", "response": {"status_code": 200, "body": CHAT}},
        {"key": "x", "response": {"modelVersion": "gemini-2.5-flash", "usageMetadata": {"promptTokenCount": 1000}}},
        {"body": 7},
        {"body": CHAT, "at": "yesterday"},
    ]
    azure, text, nova, batch, openai_batch, gemini_batch, number, when = priced(rows, at=LATER)
    assert (azure["provider"], azure["at"]) == ("azure", "2026-01-01T00:00:00Z")
    assert azure["priced_as"] == "openai/gpt-4o"  # the source has Azure's models at OpenAI
    assert text["cost_usd"] == "0.000075"
    assert nova["status"] == "final"
    assert batch["cost_usd"] == openai_batch["cost_usd"] == "0.0000375"
    assert (gemini_batch["provider"], gemini_batch["cost_usd"]) == ("google", "0.00015")
    assert (number["error"]["code"], number["error"]["where"]) == ("invalid_envelope", "body")
    assert (when["error"]["code"], when["error"]["where"]) == ("invalid_time", "at")


def test_an_id_of_the_callers_own_beside_an_answer_makes_no_batch_of_it() -> None:
    batch = {"custom_id": "a", "response": {"status_code": 200, "body": CHAT}}
    alone, keyed, named, discounted = priced([CHAT, {"key": "a", **CHAT}, {"custom_id": "a", "body": CHAT}, batch])
    assert alone["cost_usd"] == keyed["cost_usd"] == named["cost_usd"] == "0.000075"
    assert discounted["price_context"] == {"service_tier": "batch"}


def test_sound_is_not_priced_as_text() -> None:
    details = {"prompt_tokens_details": {"audio_tokens": 100}, "completion_tokens_details": {"audio_tokens": 50}}
    usage = {"prompt_tokens": 110, "completion_tokens": 60, **details}
    [one] = priced([{"model": "gpt-4o-audio-preview-2024-12-17", "usage": usage}])
    assert {line["meter"]: line["amount_usd"] for line in one["lines"]} == {
        "tokens_in": "0.000025",
        "audio_tokens_in": "0.004",
        "tokens_out": "0.0001",
        "audio_tokens_out": "0.004",
    }


def test_a_stream_is_priced_like_its_answer_and_marked_when_it_broke_off() -> None:
    chunk = {"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": "Hello"}}]}
    text = f"data: {json.dumps(chunk)}\n\n"
    end = f"data: {json.dumps({**CHAT, 'choices': []})}\n\ndata: [DONE]\n\n"
    (whole,) = priced((text + end).encode(), "--stream")
    assert (whole["status"], whole["cost_usd"]) == ("final", "0.000075")
    (cut,) = priced(text.encode(), "--stream")
    assert (cut["status"], cut["usage"]) == ("estimated", {"tokens_out": 2})
    in_envelopes = priced([{"sse": text + end, "host": "api.openai.com"}] * 2, "--stream")
    assert [answer["cost_usd"] for answer in in_envelopes] == ["0.000075", "0.000075"]


def test_work_passed_on_to_another_model_is_priced_at_that_model() -> None:
    usage = {
        "input_tokens": 5,
        "output_tokens": 2,
        "cache_read_input_tokens": 0,
        "iterations": [
            {"type": "message", "input_tokens": 5, "output_tokens": 2},
            {"type": "advisor_message", "model": "claude-opus-4-8", "input_tokens": 70, "output_tokens": 8},
        ],
    }
    (answer,) = priced([{"model": "claude-sonnet-4-6", "usage": usage}])
    assert answer["usage"] == {"tokens_in": 5, "tokens_out": 2}
    assert answer["usage_of_other_models"] == {"claude-opus-4-8": {"tokens_in": 70, "tokens_out": 8}}
    assert [line.get("model") for line in answer["lines"]] == [None, None, "claude-opus-4-8", "claude-opus-4-8"]
    assert answer["cost_usd"] == "0.000595"


def test_a_providers_own_cost_is_the_sum_and_the_difference_is_a_line() -> None:
    body = {
        "model": "nobody/knows-this",
        "provider": "Someone",
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "cost": 4e-05, "is_byok": False},
    }
    (answer,) = priced([body])
    assert (answer["provider"], answer["status"], answer["cost_usd"]) == ("openrouter", "final", "0.00004")
    assert answer["provider_cost_usd"] == "0.00004"
    assert "priced_as" not in answer
    assert answer["lines"][-1]["meter"] == "provider_cost_adjustment"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_input"),
        (b"\xef\xbb\xbf\n \n", "empty_input"),
        (b'{"a": "\xff"}', "invalid_utf8"),
        (b'{\n "usage": {\n  "prompt_tokens": 1', "malformed_json"),
        (b"[1, 2]", "not_an_object"),
        (b"17", "not_an_object"),
        (b"[" * 10_000, "too_deep"),
        (b'{"usage":' * 10_000, "too_deep"),
        (b"data: {}\n\n", "event_stream"),
        (b'{"model": "gpt-4o"}', "no_usage"),
        (b"\x00\x01\x02", "malformed_json"),
    ],
)
def test_what_cannot_be_read_is_refused_clearly(data: bytes, code: str) -> None:
    done = tally_cost("-", stdin=data)
    assert done.returncode == 2
    assert done.stdout == b""
    message = done.stderr.decode()
    assert f"[{code}]" in message
    assert "next: " in message
    assert "Traceback" not in message


def test_wrong_options_are_refused_with_the_choices() -> None:
    for arguments, words in (
        (["--provider", "opnai"], ["unknown_provider", "openai"]),
        (["--provider", "openai", "--flavor", "x"], ["unknown_flavor", "responses"]),
        (["--at", "noon"], ["invalid_time"]),
    ):
        done = tally_cost("-", *arguments, stdin=json.dumps(CHAT).encode())
        assert done.returncode == 2
        assert all(word in done.stderr.decode() for word in words)
    assert b"unreadable_file" in tally_cost("/nowhere/at/all").stderr


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say how much memory was used")
def test_a_hundred_megabytes_are_read_line_by_line_and_an_endless_line_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "big.jsonl"
    line = json.dumps({**CHAT, "text": "x" * 1_000_000}).encode() + b"\n"
    with file.open("wb") as out:
        for _ in range(60):
            out.write(line)
        out.write(b'{"text": "' + b"x" * 40_000_000 + b'"}\n')
        out.write(json.dumps(CHAT).encode())
    done = tally_cost(
        file, "--at", AT, before="import atexit; atexit.register(lambda: print(open('/proc/self/status').read()))"
    )
    answers = [json.loads(text) for text in done.stdout.splitlines() if text.startswith(b"{")]
    assert len(answers) == 62
    assert answers[60]["error"]["code"] == "body_too_large"
    assert answers[61]["cost_usd"] == "0.000075"
    peak = re.search(rb"VmHWM:\s+(\d+) kB", done.stdout)
    assert peak
    assert int(peak[1]) < 200 * 1024
