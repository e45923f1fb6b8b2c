"""`tally rates` as a person uses it: list, show, diff, refresh, each also as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tally_processes import run_tally

ENVIRONMENT = {**os.environ, "COLUMNS": "80"}
SOURCE = [
    {
        "id": "openai",
        "models": [
            {"id": "gpt-4o", "match": {"equals": "gpt-4o"}, "prices": {"input_mtok": 2.4, "output_mtok": 10}},
            {"id": "gpt-next", "match": {"starts_with": "gpt-next"}, "prices": {"input_mtok": 1, "smell_mtok": 3}},
        ],
    }
]


@pytest.fixture
def cards(tmp_path: Path) -> Path:
    return tmp_path / "cards"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(SOURCE))
    return path


def tally(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_tally(*arguments, env=ENVIRONMENT)


def answer(*arguments: str | Path) -> Any:
    done = tally(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_list_names_versions_providers_and_models(cards: Path) -> None:
    text = tally("rates", "list", "--cards", cards).stdout
    assert "genai-prices-0.2.3" in text
    assert "anthropic" in text
    listed = answer("rates", "list", "--provider", "anthropic", "--cards", cards)
    assert {one["provider"] for one in listed["models"]} == {"anthropic"}
    assert listed["versions"][0]["version"] == "genai-prices-0.0.1"
    assert len(listed["versions"][0]["sha256"]) == 64


def test_show_gives_prices_with_their_dates_and_versions(cards: Path) -> None:
    text = tally("rates", "show", "gemini-2.5-pro", "--cards", cards).stdout
    assert "$0.31 / 1M tokens, $0.625 above 200,000" in text
    assert "2025-11-07T16:05:56.976815Z" in text
    then = answer("rates", "show", "gemini-2.5-pro", "--at", "2025-09-24", "--cards", cards)
    cached = [row for row in then["rows"] if row["meter"] == "cache_read_tokens"]
    assert [(row["price_usd"], row["version"]) for row in cached] == [("0.31", "genai-prices-0.0.1")]
    old = answer("rates", "show", "gpt-4o", "--version", "genai-prices-0.0.1", "--cards", cards)
    assert old["rate_version"] == "genai-prices-0.0.1"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("show", "gpt-4o-ultra"), "unknown_model"),
        (("show", "gpt-4o", "--provider", "nobody"), "unknown_model"),
        (("show", "gpt-4o", "--at", "yesterday"), "invalid_time"),
        (("show", "gpt-4o", "--version", "x"), "unknown_rate_version"),
        (("list", "--provider", "nobody"), "unknown_provider"),
        (("diff", "genai-prices-0.2.3", "x"), "unknown_rate_version"),
        (("refresh", "/no/such/file"), "unknown_price_source"),
    ],
)
def test_a_wrong_name_is_said_and_exits_with_2(arguments: tuple[str, ...], code: str, cards: Path) -> None:
    done = tally("rates", *arguments, "--cards", cards)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"[{code}]" in done.stderr
    assert "next:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_of_several_providers_asks_which(cards: Path) -> None:
    done = tally("rates", "show", "whisper-large-v3", "--cards", cards)
    assert "--provider groq" in done.stderr


def test_diff_says_what_the_later_version_knows(cards: Path) -> None:
    text = tally("rates", "diff", "genai-prices-0.2.2", "genai-prices-0.2.3", "--cards", cards).stdout
    assert "anthropic/claude-opus-5" in text
    assert "[speed fast]" in text
    same = tally("rates", "diff", "genai-prices-0.2.3", "genai-prices-0.2.3", "--cards", cards)
    assert same.stdout == "no difference\n"
    changes = answer("rates", "diff", "genai-prices-0.0.36", "genai-prices-0.0.37", "--cards", cards)
    change = next(
        one for one in changes["prices"] if (one["model"], one["meter"]) == ("gemini-2.5-pro", "cache_read_tokens")
    )
    assert (change["kind"], change["before"]["price_usd"], change["after"]["price_usd"]) == ("changed", "0.31", "0.125")


def test_refresh_appends_one_file_and_prints_what_changed(cards: Path, source: Path) -> None:
    done = tally("rates", "refresh", source, "--cards", cards)
    assert done.returncode == 0, done.stderr
    assert "openai/gpt-next" in done.stdout
    assert "$2.5 / 1M tokens" in done.stdout
    assert "$2.4 / 1M tokens" in done.stdout
    assert "openai/gpt-next: smell_mtok" in done.stderr
    (added,) = cards.glob("*.jsonl")
    before = added.read_bytes()
    shown = answer("rates", "show", "gpt-4o", "--provider", "openai", "--cards", cards)
    prices = [(row["price_usd"], row["valid_to"] is None) for row in shown["rows"] if row["meter"] == "tokens_in"]
    assert prices[0] == ("2.5", False)
    assert prices[1] == ("2.4", True)

    again = tally("rates", "refresh", source, "--cards", cards)
    assert again.returncode == 2
    assert "[rates_already_known]" in again.stderr
    following = [{**SOURCE[0], "models": [{**SOURCE[0]["models"][0], "prices": {"input_mtok": 2}}]}]
    source.write_text(json.dumps(following))
    second = answer("rates", "refresh", source, "--cards", cards)
    assert second["models_retired"] == ["openai/gpt-next"]
    assert added.read_bytes() == before
    assert len(list(cards.glob("*.jsonl"))) == 2


def test_refresh_refuses_what_is_older_and_what_is_no_source(cards: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "genai_prices-0.1.99-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("genai_prices/__init__.py", "")
        archive.writestr("genai_prices/data.py", "providers = []")
    assert "[invalid_price_source]" in tally("rates", "refresh", wheel, "--cards", cards).stderr
    code = (
        "from types import SimpleNamespace as S\n"
        "class ClauseEquals:\n    def __init__(self, equals): self.equals = equals\n"
        "providers = [S(id='p', models=[S(id='m', match=ClauseEquals('m'), prices=S(input_mtok=1))])]\n"
    )
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("genai_prices/__init__.py", "")
        archive.writestr("genai_prices/data.py", code)
    assert "[rates_too_old]" in tally("rates", "refresh", wheel, "--cards", cards).stderr
    wheel.write_bytes(b"not a wheel")
    assert "[invalid_price_source]" in tally("rates", "refresh", wheel, "--cards", cards).stderr
    assert list(cards.glob("*.jsonl")) == []


def test_a_newer_wheel_is_read_by_its_own_code(cards: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "genai_prices-9.0.0-py3-none-any.whl"
    code = (
        "from decimal import Decimal\nfrom types import SimpleNamespace as S\n"
        "class ClauseEquals:\n    def __init__(self, equals): self.equals = equals\n"
        "model = S(id='m', match=ClauseEquals('m'), prices=S(input_mtok=Decimal('0.25')))\n"
        "providers = [S(id='nearby', models=[model])]\n"
    )
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("genai_prices/__init__.py", "")
        archive.writestr("genai_prices/data.py", code)
    done = answer("rates", "refresh", wheel, "--cards", cards)
    assert (done["version"], done["models_added"]) == ("genai-prices-9.0.0", ["nearby/m"])
    assert answer("rates", "show", "m", "--provider", "nearby", "--cards", cards)["rows"][0]["price_usd"] == "0.25"


def test_the_installed_release_is_already_known(cards: Path) -> None:
    done = tally("rates", "refresh", "genai-prices", "--cards", cards)
    assert "[rates_already_known]" in done.stderr


def test_a_damaged_card_is_refused_and_named(cards: Path, source: Path) -> None:
    answer("rates", "refresh", source, "--cards", cards)
    (added,) = cards.glob("*.jsonl")
    added.write_bytes(added.read_bytes().replace(b'"price_pico":', b'"price":', 1))
    done = tally("rates", "list", "--cards", cards)
    assert done.returncode == 2
    assert added.name in done.stderr
