"""When the last backup of a data directory was made: a note beside what it is of, for `tally doctor` and `/metrics`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from tallystick.app.settings import Settings
from tallystick.core.errors import BadInput
from tallystick.core.instants import parse_instant


def last_backup_path(settings: Settings) -> Path:
    """Where the last backup of this data directory is noted."""
    return settings.data_dir / "last-backup.json"


def last_backup_at(settings: Settings) -> datetime | None:
    """Of which moment the last backup of this data directory is; None where there is no word of any."""
    try:
        return parse_instant(json.loads(last_backup_path(settings).read_text())["at"], where="at")
    except (OSError, ValueError, KeyError, TypeError, BadInput):
        return None


def note_backup(settings: Settings, noted: Mapping[str, str | int | float]) -> None:
    """Note a backup; `at` is the moment that it shows. That this fails does not make the backup a failure."""
    target = last_backup_path(settings)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(noted) + "\n")
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)
