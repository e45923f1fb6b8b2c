"""The bundled history can be rebuilt from the source's wheels, with what was written by hand in its place."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

_CODE = """
from decimal import Decimal
from types import SimpleNamespace as S
class ClauseEquals:
    def __init__(self, equals): self.equals = equals
providers = [S(id='p', models=[S(id='m', match=ClauseEquals('m'), prices=S(input_mtok=Decimal('%s')))])]
"""


def _wheel(folder: Path, version: str, price: str) -> None:
    with zipfile.ZipFile(folder / f"genai_prices-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr("genai_prices/__init__.py", "")
        archive.writestr("genai_prices/data.py", _CODE % price)


def _by_hand(previous: bytes, version: str, price_pico: int) -> bytes:
    header = {
        "row": "card", "format": 1, "version": version, "known_at": "2026-02-01T00:00:00Z", "source": "tallystick",
        "source_sha256": None, "previous": hashlib.sha256(previous).hexdigest(),
    }  # fmt: skip
    rate = {
        "row": "rate",
        "provider": "p",
        "model": "m",
        "meter": "web_searches",
        "per": 1000,
        "price_pico": price_pico,
    }
    return b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in (header, rate))


def _rebuild(wheels: Path, out: Path) -> dict[str, bytes]:
    command = [sys.executable, "-m", "tallystick.app.rates_history", str(wheels), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.jsonl"))}


def test_a_rebuild_gives_the_same_bytes_and_keeps_files_by_hand_also_one_after_another(tmp_path: Path) -> None:
    wheels, out = tmp_path / "wheels", tmp_path / "cards"
    wheels.mkdir()
    out.mkdir()
    _wheel(wheels, "0.0.1", "1")
    published = {"0.0.1": "2026-01-01T00:00:00Z", "0.0.2": "2026-03-01T00:00:00Z"}
    (wheels / "known_at.json").write_text(json.dumps(published))
    (first,) = _rebuild(wheels, out).values()
    one = _by_hand(first, "tallystick-1", 10**13)
    two = _by_hand(one, "tallystick-2", 2 * 10**13)
    (out / "0002-tallystick-1.jsonl").write_bytes(one)
    (out / "0003-tallystick-2.jsonl").write_bytes(two)
    _wheel(wheels, "0.0.2", "2")
    built = _rebuild(wheels, out)
    assert list(built.values())[:3] == [first, one, two]
    assert list(built)[3] == "0004-genai-prices-0.0.2.jsonl"
    assert b'"valid_from":"2026-03-01T00:00:00Z"' in built["0004-genai-prices-0.0.2.jsonl"]
    assert _rebuild(wheels, out) == built
