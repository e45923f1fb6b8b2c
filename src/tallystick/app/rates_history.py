"""Builds the bundled history of rate cards from the wheels of the price source. A developer's command:

    python -m tallystick.app.rates_history WHEEL_DIR OUT_DIR

WHEEL_DIR holds genai_prices-*.whl and `known_at.json`, which gives for each version the instant at which it
was published. OUT_DIR gets one card file for every release that changed anything. Files written by hand
(whose source is "tallystick") that lie in OUT_DIR already keep their place in the chain. The same wheels
give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput, TallyError
from tallystick.core.instants import parse_instant
from tallystick.rates.cardfile import FORMAT, CardVersion, Header, parse_card_file, render_card_file
from tallystick.rates.fold import Known, fold, known_from
from tallystick.rates.source import Release, decode_source, read_release

SOURCE = "genai-prices"
BY_HAND = "tallystick"
_DUMP = Path(__file__).with_name("rates_dump.py")
_DUMP_SECONDS_MAX = 120

# The first release is a trial that the next one, a day younger, replaced; its mistakes are not history.
_SKIPPED = frozenset({"0"})


def dump_wheel(wheel: Path) -> bytes:
    """The price data of a wheel as JSON, read by the wheel's own code in another process.

    Raises:
        BadInput: `invalid_price_source`.
    """
    command = [sys.executable, "-I", str(_DUMP), str(wheel.resolve())]
    done = subprocess.run(command, capture_output=True, timeout=_DUMP_SECONDS_MAX, check=False)  # noqa: S603 - ours
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise BadInput(
            "invalid_price_source",
            f"{wheel.name} cannot be read: {last}",
            next_step="give a wheel of genai-prices",
            where=str(wheel),
        )
    return done.stdout


def version_of_wheel(name: str) -> str | None:
    """The release of a file named like a genai-prices wheel, else None."""
    parts = name.removesuffix(".whl").split("-")
    return parts[1] if name.endswith(".whl") and parts[0] == "genai_prices" and len(parts) >= 5 else None


def next_file(
    known: Known, release: Release, *, version: str, known_at: datetime, source_sha256: str, previous: str | None
) -> tuple[Known, bytes | None]:
    """What is known after a release, and the bytes of its card file; None when it changes nothing."""
    after, lines = fold(known, release, known_at)
    if not lines:
        return after, None
    header = Header(
        format=FORMAT,
        version=version,
        known_at=known_at,
        source=SOURCE,
        source_sha256=source_sha256,
        previous=previous,
    )
    return after, render_card_file(header, lines)


def file_name(index: int, version: str) -> str:
    """Card files sort in the order of their chain."""
    return f"{index:04d}-{version}.jsonl"


def build(wheels: Iterable[tuple[str, datetime, Path]], by_hand: Iterable[bytes]) -> dict[str, bytes]:
    """The whole chain, by file name, oldest first.

    Args:
        wheels: (version, known_at, wheel), in any order.
        by_hand: files written by hand; each must follow the file that its header names.
    """
    waiting: dict[str | None, bytes] = {parse_card_file(content).header.previous: content for content in by_hand}
    files: dict[str, bytes] = {}
    versions: list[CardVersion] = []
    known = Known()

    def add(content: bytes) -> None:
        versions.append(parse_card_file(content))
        files[file_name(len(versions), versions[-1].name)] = content

    for version, known_at, wheel in sorted(wheels, key=lambda one: one[1]):
        previous = versions[-1].sha256 if versions else None
        release = read_release(decode_source(dump_wheel(wheel)))
        known, content = next_file(
            known,
            release,
            version=f"{SOURCE}-{version}",
            known_at=known_at,
            source_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
            previous=previous,
        )
        if content is None:
            continue
        add(content)
        while (hand := waiting.pop(versions[-1].sha256, None)) is not None:  # one of them may follow another
            add(hand)
            known = known_from(versions, source=SOURCE)
    if waiting:
        raise BadInput(
            "broken_card_chain",
            "a file written by hand follows a file that these wheels do not give",
            next_step="set its `previous` to the SHA-256 of the file that it should follow",
        )
    return files


def main(arguments: list[str]) -> None:
    wheel_dir, out_dir = (Path(argument) for argument in arguments)
    published: dict[str, Any] = json.loads((wheel_dir / "known_at.json").read_text())
    named = ((version_of_wheel(path.name), path) for path in wheel_dir.glob("*.whl"))
    wheels = [
        (version, parse_instant(published[version]), path)
        for version, path in named
        if version is not None and version not in _SKIPPED
    ]
    present = [path.read_bytes() for path in sorted(out_dir.glob("*.jsonl"))]
    by_hand = [content for content in present if parse_card_file(content).header.source == BY_HAND]
    files = build(wheels, by_hand)
    for path in out_dir.glob("*.jsonl"):
        path.unlink()
    for name, content in files.items():
        (out_dir / name).write_bytes(content)
    sys.stdout.write(f"{len(files)} card files from {len(wheels)} releases\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except TallyError as error:
        sys.exit(f"error: {error}\nnext: {error.next_step}")
