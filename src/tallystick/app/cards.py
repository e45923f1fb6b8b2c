"""Loads the rate cards: those bundled with the program, then those that `tally rates refresh` added."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from tallystick.core.errors import BadInput
from tallystick.rates.card import CardHistory
from tallystick.rates.cardfile import parse_card_file

CARD_BYTES_MAX = 64 * 1024 * 1024


def load_card_history(extra_dir: Path | None = None) -> CardHistory:
    """Every version of the rate card that is known here, in the order in which it became known.

    Args:
        extra_dir: a folder of further card files (`*.jsonl`, in the order of their names); it may be missing.

    Raises:
        BadInput: `invalid_card_header`, `broken_card_chain`, `duplicate_rate_version`, `card_too_large`.
        Problems: `invalid_card`.
    """
    return CardHistory(parse_card_file(content, name=name) for name, content in named_card_files(extra_dir))


def read_card_files(extra_dir: Path | None = None) -> list[bytes]:
    """The bytes of every card file, oldest first; see `load_card_history`."""
    return [content for _, content in named_card_files(extra_dir)]


def named_card_files(extra_dir: Path | None) -> list[tuple[str, bytes]]:
    """(name, bytes) of every card file, oldest first: the bundled ones, then those of `extra_dir`."""
    bundled = files("tallystick.rates") / "cards"
    named = [(entry.name, entry.read_bytes()) for entry in bundled.iterdir() if entry.name.endswith(".jsonl")]
    named.sort()
    if extra_dir is not None and extra_dir.is_dir():
        named += [(str(path), _read(path)) for path in sorted(extra_dir.glob("*.jsonl"))]
    return named


def _read(path: Path) -> bytes:
    if path.stat().st_size > CARD_BYTES_MAX:
        raise BadInput(
            "card_too_large",
            f"a card file holds at most {CARD_BYTES_MAX} bytes",
            next_step="remove the file; `tally rates refresh` writes small ones",
            where=str(path),
        )
    return path.read_bytes()
