"""Takes newer prices into the rate card: one more file at the end of the chain, never a change of an old one."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from tallystick.app.cards import load_card_history
from tallystick.app.rates_history import SOURCE, dump_wheel, file_name, next_file, version_of_wheel
from tallystick.core.errors import BadInput, Conflict, Unavailable
from tallystick.core.instants import format_instant
from tallystick.rates.card import CardHistory
from tallystick.rates.cardfile import CardVersion, parse_card_file
from tallystick.rates.changes import CardChanges, compare
from tallystick.rates.fold import known_from
from tallystick.rates.source import Release, decode_source, read_release

SOURCE_BYTES_MAX = 64 * 1024 * 1024
_DOWNLOAD_SECONDS_MAX = 300
_REQUIREMENT = re.compile(r"genai[-_]prices(?:==([0-9][0-9a-zA-Z.]*))?")


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did. `path` is None when the source says nothing new, and then nothing was written."""

    version: str
    path: Path | None
    changes: CardChanges
    not_taken: tuple[str, ...]
    """Prices of the source that no meter of ours counts."""


@dataclass(frozen=True)
class _Source:
    version: str
    release: tuple[int, ...] | None
    sha256: str
    content: Release


def refresh(source: str, cards_dir: Path, now: datetime) -> Refreshed:
    """Append what a newer source says, as known from `now` on.

    Args:
        source: a genai-prices wheel, a JSON file in the shape of its data.json, `genai-prices` for the
            installed release, or `genai-prices==VERSION` to download one.
        cards_dir: the folder of added card files; it is made when missing.
        now: the present instant.

    Raises:
        BadInput: `invalid_price_source`, `unknown_price_source`, or what `load_card_history` raises.
        Conflict: `rates_already_known`, `rates_too_old` or `clock_behind_rates`.
        Unavailable: `price_source_unreachable`.
    """
    taken = _read_source(source)
    cards_dir.mkdir(parents=True, exist_ok=True)
    with _alone(cards_dir):
        history = load_card_history(cards_dir)
        _check_newer(history, taken, now)
        versions = history.versions
        _, content = next_file(
            known_from(versions, source=SOURCE),
            taken.content,
            version=taken.version,
            known_at=now,
            source_sha256=taken.sha256,
            previous=versions[-1].sha256,
        )
        if content is None:
            return Refreshed(taken.version, None, CardChanges((), (), ()), taken.content.not_taken)
        added = parse_card_file(content)
        path = cards_dir / file_name(len(versions) + 1, taken.version)
        _write_durably(path, content)
    return Refreshed(taken.version, path, compare(versions, (*versions, added)), taken.content.not_taken)


def _check_newer(history: CardHistory, taken: _Source, now: datetime) -> None:
    ours = [version for version in history.versions if version.header.source == SOURCE]
    for version in ours:
        if version.name == taken.version or version.header.source_sha256 == taken.sha256:
            raise Conflict(
                "rates_already_known",
                f"{taken.version} is already in the rate card, known since {format_instant(version.header.known_at)}",
                next_step="nothing needs to be done; `tally rates list` shows the versions",
            )
    newest = max((_release(version) for version in ours), default=())
    if taken.release is not None and taken.release <= newest:
        raise Conflict(
            "rates_too_old",
            f"{taken.version} is older than {ours[-1].name}, which the rate card already has",
            next_step="give a newer release; what was known when is never rewritten",
        )
    if now < history.versions[-1].header.known_at:
        raise Conflict(
            "clock_behind_rates",
            f"this machine's clock says {format_instant(now)}, which is before the newest rate card became known",
            next_step="set the clock and try again",
        )


def _release(version: CardVersion) -> tuple[int, ...]:
    return _release_number(version.name.removeprefix(SOURCE + "-")) or ()


def _release_number(text: str) -> tuple[int, ...] | None:
    parts = text.split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else None


def _read_source(source: str) -> _Source:
    requirement = _REQUIREMENT.fullmatch(source.strip())
    if requirement is not None:
        return _installed() if requirement[1] is None else _downloaded(requirement[1])
    path = Path(source)
    if not path.is_file():
        raise BadInput(
            "unknown_price_source",
            f"{source!r} is neither a file nor a release of genai-prices",
            next_step="give a .whl or .json file, genai-prices, or genai-prices==VERSION",
        )
    if path.stat().st_size > SOURCE_BYTES_MAX:
        raise BadInput(
            "invalid_price_source",
            f"{path} is larger than {SOURCE_BYTES_MAX} bytes",
            next_step="give a wheel of genai-prices, or its data.json",
        )
    return _wheel(path) if path.suffix == ".whl" else _json_file(path)


def _json_file(path: Path) -> _Source:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return _Source(f"{SOURCE}-data-{digest[:12]}", None, digest, read_release(decode_source(content)))


def _wheel(path: Path) -> _Source:
    version = version_of_wheel(path.name)
    if version is None:
        raise BadInput(
            "unknown_price_source",
            f"{path.name} is not named like a genai-prices wheel",
            next_step="give the wheel under the name it was published with",
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    release = read_release(decode_source(dump_wheel(path)))
    return _Source(f"{SOURCE}-{version}", _release_number(version), digest, release)


def _installed() -> _Source:
    try:
        installed = distribution(SOURCE)
    except PackageNotFoundError:
        raise BadInput(
            "unknown_price_source",
            "genai-prices is not installed here",
            next_step="install tallystick[refresh], or give genai-prices==VERSION or a wheel",
        ) from None
    folder = Path(str(installed.locate_file("")))
    content = dump_wheel(folder)
    digest = hashlib.sha256(content).hexdigest()
    release = read_release(decode_source(content))
    return _Source(f"{SOURCE}-{installed.version}", _release_number(installed.version), digest, release)


def _downloaded(version: str) -> _Source:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", folder, f"{SOURCE}=={version}"]
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter; the version was checked to be one
                command, capture_output=True, timeout=_DOWNLOAD_SECONDS_MAX, check=False
            )
            why = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        except subprocess.TimeoutExpired:
            why = f"it took longer than {_DOWNLOAD_SECONDS_MAX} s"
        wheels = list(Path(folder).glob("*.whl"))
        if not wheels:
            raise Unavailable(
                "price_source_unreachable",
                f"genai-prices {version} could not be downloaded: {why}",
                next_step="check the version and the network, or download the wheel and give its path",
            )
        return _wheel(wheels[0])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One refresh at a time: two would both follow the same file."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_durably(path: Path, content: bytes) -> None:
    """A new file, whole or not at all, and on disk before anybody is told."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    written = Path(file.name)
    try:
        written.chmod(0o644)
        os.link(written, path)  # unlike a rename, this refuses to replace a file
    except FileExistsError:
        raise Conflict(
            "rates_already_known", f"{path} exists already", next_step="`tally rates list` shows the versions"
        ) from None
    finally:
        written.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
