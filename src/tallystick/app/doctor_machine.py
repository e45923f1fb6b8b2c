"""What `tally doctor` looks at without a database: folders, disk, queues, files, time zones, the last backup."""

from __future__ import annotations

import json
import os
import stat
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tallystick.app.doctor import Examination, Finding, Level, from_check
from tallystick.app.gateway_terms import check_gateway, gateway_terms
from tallystick.app.health import check_disk, check_settlements, check_spool
from tallystick.app.last_backup import last_backup_path
from tallystick.app.restore_mark import refuse_unfinished
from tallystick.app.settings import Settings
from tallystick.app.signing import read_signing_key, signing_key_path
from tallystick.app.webhook_secrets import read_key
from tallystick.core.errors import BadInput
from tallystick.core.instants import parse_instant

_LOW_DISK_BYTES = 2 << 30
_PRIVATE = ("keys", "blocks", "spool", "settlements", "postgres")
_ZONES = ("UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata")


def examine(found: Examination, settings: Settings, now: datetime, backup_days_max: int) -> None:
    """Make all of these checks."""
    found.look("data_dir", lambda: _data_dir(settings))
    found.look("restore", lambda: _restore(settings))
    found.look("disk", lambda: _disk(settings))
    found.look("spool", lambda: _spool(settings))
    found.look("settlements", lambda: _settlements(settings))
    found.look("signing_key", lambda: _signing_key(settings))
    found.look("webhook_key", lambda: _webhook_key(settings))
    found.look("gateway", lambda: _gateway(settings))
    found.look("time_zones", _time_zones)
    found.look("backup", lambda: _backup(settings, now, backup_days_max))


def _data_dir(settings: Settings) -> Finding:
    folder = settings.data_dir
    if not folder.exists():
        if settings.database_url is not None:
            return Finding("data_dir", "ok", f"{folder} is not there yet")
        return Finding("data_dir", "warn", f"{folder} is not there yet", "it is made by the first start")
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        step = "run as the user that `tally serve` runs as, or set TALLY_DATA_DIR"
        return Finding("data_dir", "fail", f"{folder} is no folder that this user may write to", step)
    writable = [path for path in (folder, *_private(settings)) if path.exists() and path.stat().st_mode & 0o022]
    if writable:
        names = ", ".join(map(str, writable))
        return Finding("data_dir", "fail", f"others may write to {names}", f"chmod go-w {names}")
    readable = [path for path in _private(settings) if path.exists() and path.stat().st_mode & stat.S_IROTH]
    if readable:
        names = ", ".join(map(str, readable))
        return Finding("data_dir", "warn", f"others may list {names}", f"chmod o-r {names}")
    return Finding("data_dir", "ok", f"{folder} is writable, and for nobody else")


def _private(settings: Settings) -> list[Path]:
    folders = [settings.data_dir / name for name in _PRIVATE]
    return [*folders, *([settings.blocks_dir] if settings.blocks_dir else [])]


def _restore(settings: Settings) -> Finding:
    refuse_unfinished(settings.data_dir)
    path = settings.data_dir / "restored.json"
    try:
        noted = json.loads(path.read_text())
        said = f"restored at {noted['at']} from a backup of {noted['taken_at']}"
    except (FileNotFoundError, NotADirectoryError):
        return Finding("restore", "ok", "this place was not made of a backup")
    except (ValueError, KeyError, TypeError):
        return Finding("restore", "warn", f"{path} cannot be read", "a backup was restored here: note yourself which")
    return Finding("restore", "ok", said, figures=noted)


def _disk(settings: Settings) -> Finding:
    check = check_disk(settings)
    if not check.ok:
        return from_check(check, "make room: events are refused until then")
    if int(check.figures.get("free_bytes") or 0) < _LOW_DISK_BYTES:
        return Finding("disk", "warn", f"{check.detail}, which does not last", "make room soon", check.figures)
    return from_check(check, "")


def _spool(settings: Settings) -> Finding:
    check, takes_more, is_empty = check_spool(settings)
    if check.ok and not is_empty:
        step = "events wait for the database: start `tally serve`, or run `tally spool drain`"
        return Finding("spool", "warn", check.detail, step, check.figures)
    level: Level = "warn" if takes_more else "fail"
    return from_check(check, "see `tally spool`: retry or dismiss what was refused", level=level)


def _settlements(settings: Settings) -> Finding:
    return from_check(check_settlements(settings), "see `tally settlements`: retry or give up what was refused")


def _signing_key(settings: Settings) -> Finding:
    path = signing_key_path(settings)
    if not path.exists():
        return Finding("signing_key", "ok", f"there is no {path} yet; sealing makes one, unless it has signed before")
    key = read_signing_key(path)
    if key.name != settings.log_origin:
        return Finding(
            "signing_key", "fail", f"{path} signs as {key.name}, and TALLY_LOG_ORIGIN is {settings.log_origin}",
            f"set TALLY_LOG_ORIGIN={key.name}: a log keeps its name",
        )  # fmt: skip
    return Finding("signing_key", "ok", f"{path} signs as {key.name}+{key.public.key_id.hex()}")


def _webhook_key(settings: Settings) -> Finding:
    key = read_key(settings)
    if key is None:
        return Finding("webhook_key", "ok", "no secret of a webhook was made on this machine")
    return Finding("webhook_key", "ok", f"key {key.key_id} of webhooks' secrets is for its owner alone")


def _gateway(settings: Settings) -> Finding:
    check_gateway(settings)
    terms = gateway_terms(settings)
    named = ", ".join(sorted(terms.providers))
    where = "what is built in" if settings.gateway_file is None else str(settings.gateway_file)
    return Finding("gateway", "ok", f"{where}: {named}; {len(terms.tools):,} tools")


def _time_zones() -> Finding:
    missing = []
    for name in _ZONES:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, OSError):
            missing.append(name)
    if missing:
        step = "install the system's tzdata, or the Python package of that name"
        return Finding("time_zones", "fail", f"no time zone data for {', '.join(missing)}", step)
    known = _zone_version()
    return Finding("time_zones", "ok", f"time zone data are there{f', version {known}' if known else ''}")


def _zone_version() -> str | None:
    try:
        return version("tzdata")
    except PackageNotFoundError:
        return None


def _backup(settings: Settings, now: datetime, days_max: int) -> Finding:
    step = "run `tally backup FILE`, daily, and keep the files elsewhere"
    try:
        noted = json.loads(last_backup_path(settings).read_text())
        taken_at = parse_instant(noted["at"])
        said = f"the last backup is of {noted['at']}: {noted['file']}"
    except (FileNotFoundError, NotADirectoryError):
        return Finding("backup", "warn", "no backup of this data directory was ever written here", step)
    except (ValueError, KeyError, TypeError, BadInput):
        return Finding("backup", "warn", f"{last_backup_path(settings)} cannot be read", step)
    if noted.get("unsound"):
        return Finding("backup", "fail", f"{said}; something was broken already", "run `tally verify`", noted)
    if now - taken_at > timedelta(days=days_max):
        return Finding("backup", "warn", f"{said}, more than {days_max} days ago", step, noted)
    return Finding("backup", "ok", said, figures=noted)
