"""`tally rates`: which prices are known, since when, and what changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tallystick.app.cards import load_card_history
from tallystick.app.rates_refresh import refresh
from tallystick.app.rates_view import (
    changes_dict,
    diff_versions,
    list_models,
    list_versions,
    per_words,
    price_words,
    show_model,
)
from tallystick.app.settings import Settings
from tallystick.cli.output import print_json, print_text, progress_bar, say
from tallystick.core.instants import parse_instant
from tallystick.rates.card import CardHistory
from tallystick.usage.meters import METERS

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Cards = Annotated[Path | None, typer.Option("--cards", help="Folder of added card files; DATA_DIR/cards by default.")]


def register(app: typer.Typer) -> None:
    """Add `tally rates`."""
    rates = typer.Typer(
        help="What providers charge: versions, prices, differences, newer prices.", no_args_is_help=True
    )
    rates.command("list")(list_command)
    rates.command("show")(show_command)
    rates.command("diff")(diff_command)
    rates.command("refresh")(refresh_command)
    app.add_typer(rates, name="rates")


def list_command(
    provider: Annotated[str | None, typer.Option(help="List the models of this provider.")] = None,
    cards: _Cards = None,
    as_json: _Json = False,
) -> None:
    """List the versions of the rate card and the models it has, by provider."""
    history = _history(cards)
    models = list_models(history.latest, provider)
    if as_json:
        print_json({"versions": list_versions(history), "models": models})
    elif provider is not None:
        _print_rows(("model", "prices", "in the source"), [_model_row(one) for one in models], right=(1,))
    else:
        rows = [
            (one["version"], one["known_at"], f"{one['rates']:,}", f"{one['models']:,}")
            for one in list_versions(history)
        ]
        _print_rows(("version", "known at", "rates", "models"), rows, right=(2, 3))
        counts = Counter(one["provider"] for one in models)
        print_text("")
        _print_rows(
            ("provider", "models"), [(name, f"{count:,}") for name, count in sorted(counts.items())], right=(1,)
        )


def show_command(
    model: Annotated[str, typer.Argument(help="The model, as its provider names it.")],
    provider: Annotated[str | None, typer.Option(help="Who serves it; found out from the name by default.")] = None,
    at: Annotated[str | None, typer.Option(help="Only what is in force at this instant (RFC 3339).")] = None,
    version: Annotated[str | None, typer.Option(help="As known at this version; the newest by default.")] = None,
    cards: _Cards = None,
    as_json: _Json = False,
) -> None:
    """Show the prices of a model through time: from when until when, and since when they are known."""
    history = _history(cards)
    card = history.latest if version is None else history.at(version)
    shown = show_model(card, model, provider, parse_instant(at, where="--at") if at else None)
    if as_json:
        print_json(shown)
        return
    print_text(f"{shown['provider']}/{shown['model']}  as known at {shown['rate_version']}\n")
    if not shown["rows"]:
        print_text("no prices")
        return
    _print_rows(("meter", "price", "valid from", "valid to", "known by"), [_rate_row(row) for row in shown["rows"]])


def diff_command(
    one: Annotated[str, typer.Argument(metavar="A", help="A version of the rate card.")],
    two: Annotated[str, typer.Argument(metavar="B", help="Another version.")],
    cards: _Cards = None,
    as_json: _Json = False,
) -> None:
    """Print what version B says that version A does not: models and prices, with the dates they hold for."""
    differences = diff_versions(_history(cards), one, two)
    if as_json:
        print_json(differences)
    else:
        _print_changes(differences)


def refresh_command(
    source: Annotated[
        str,
        typer.Argument(help="A genai-prices wheel, its data.json, genai-prices (installed), or genai-prices==VERSION."),
    ],
    cards: _Cards = None,
    as_json: _Json = False,
) -> None:
    """Append newer prices to the rate card, as known from now on; nothing that is there is rewritten.

    A wheel is read by its own code, in a process of its own: give only wheels you trust.
    """
    with progress_bar("reading prices", None):
        done = refresh(source, _folder(cards), datetime.now(UTC))
    for line in done.not_taken:
        say(f"not taken, no meter counts it: {line}")
    if as_json:
        path = None if done.path is None else str(done.path)
        print_json({"version": done.version, "path": path, **changes_dict(done.changes)})
    elif done.path is None:
        print_text(f"{done.version} says nothing new; the rate card stays as it is")
    else:
        _print_changes(changes_dict(done.changes))
        print_text(f"\n{done.version} added: {done.path}")


def _folder(cards: Path | None) -> Path:
    return Settings().data_dir / "cards" if cards is None else cards


def _history(cards: Path | None) -> CardHistory:
    return load_card_history(_folder(cards))


def _model_row(model: dict[str, Any]) -> tuple[str, str, str]:
    return model["model"], str(model["prices"]), "yes" if model["listed"] else "no longer"


def _rate_row(row: dict[str, Any]) -> tuple[str, ...]:
    window = "" if row["window"] is None else f" at {row['window']}"
    price = price_words(row, METERS[row["meter"]].unit) + window
    if row["quantity_min"]:
        price += f", at least {per_words(row['quantity_min'], METERS[row['meter']].unit)}"
    name = row["meter"] + _context_words(row["context"])
    return name, price, row["valid_from"] or "always", row["valid_to"] or "", row["version"]


def _print_changes(changes: dict[str, Any]) -> None:
    for title, key in (("new models", "models_added"), ("no longer in the source", "models_retired")):
        if changes[key]:
            print_text(f"{title}: {', '.join(changes[key])}\n")
    rows = [_change_row(change) for change in changes["prices"]]
    if rows:
        _print_rows(("", "model", "meter", "before", "after", "from", "to"), rows)
    elif not (changes["models_added"] or changes["models_retired"]):
        print_text("no difference")


def _change_row(change: dict[str, Any]) -> tuple[str, ...]:
    unit = METERS[change["meter"]].unit
    return (
        {"added": "+", "changed": "~", "ended": "-"}[change["kind"]],
        f"{change['provider']}/{change['model']}",
        change["meter"] + _context_words(change["context"]),
        "" if change["before"] is None else price_words(change["before"], unit),
        "" if change["after"] is None else price_words(change["after"], unit),
        change["valid_from"] or "always",
        change["valid_to"] or "",
    )


def _context_words(context: dict[str, str]) -> str:
    return "".join(f" [{key} {value}]" for key, value in sorted(context.items()))


def _print_rows(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: tuple[int, ...] = ()) -> None:
    """Aligned columns, never wrapped: a line of output is a row, also for `grep`."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        cells = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print_text("  ".join(cells).rstrip())
