"""Loads the rate cards: those bundled with the program, then those that `tally rates refresh` added."""

from __future__ import annotations

import hashlib
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
    return CardHistory([parse_card_file(content, name=name) for name, content in _chain(extra_dir)])


def read_card_files(extra_dir: Path | None = None) -> list[bytes]:
    """The same versions as files, byte for byte, oldest first.

    Raises:
        BadInput: `invalid_card_header`, `card_too_large`.
    """
    return [content for _, content in _chain(extra_dir)]


def _chain(extra_dir: Path | None) -> list[tuple[str, bytes]]:
    """The files with their names. A card refreshed here has taken the place that a later release of Tallystick
    gives to its own: the chain stays the one that was known here, and `rates refresh` brings newer prices.
    """
    bundled, added = _bundled(), _added(extra_dir)
    if added:
        name, content = added[0]
        before = [hashlib.sha256(content).hexdigest() for _, content in bundled]
        previous = parse_card_file(content, name=name).header.previous
        if previous in before:
            bundled = bundled[: before.index(previous) + 1]
    return [*bundled, *added]


def _bundled() -> list[tuple[str, bytes]]:
    folder = files("tallystick.rates") / "cards"
    return sorted((entry.name, entry.read_bytes()) for entry in folder.iterdir() if entry.name.endswith(".jsonl"))


def _added(folder: Path | None) -> list[tuple[str, bytes]]:
    found = sorted(folder.glob("*.jsonl")) if folder is not None and folder.is_dir() else []
    return [(str(path), _read(path)) for path in found]


def _read(path: Path) -> bytes:
    if path.stat().st_size > CARD_BYTES_MAX:
        raise BadInput(
            "card_too_large",
            f"a card file holds at most {CARD_BYTES_MAX} bytes",
            next_step="remove the file; `tally rates refresh` writes small ones",
            where=str(path),
        )
    return path.read_bytes()
