"""Where a client's settings come from: what it is told, else the environment, else a default."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from tallystick_sdk.errors import BadRequest
from tallystick_sdk.tagging import checked
from tallystick_sdk.wire import checked_base_url

API_KEY: Final = "TALLY_API_KEY"
BASE_URL: Final = "TALLY_BASE_URL"
SPOOL_DIR: Final = "TALLY_SPOOL_DIR"
ORG: Final = "TALLY_ORG"
LOCAL: Final = "http://127.0.0.1:8080"
"""Where `tally serve` listens when it is told nothing."""

SpoolPlace = str | os.PathLike[str] | Literal[False] | None


def base_url_of(given: str | None) -> str:
    """The server's address.

    Raises:
        BadRequest: `invalid_base_url`.
    """
    return checked_base_url(given or os.environ.get(BASE_URL) or LOCAL)


def api_key_of(given: str | None) -> str | None:
    """The key; None where the server needs none.

    Raises:
        BadRequest: `invalid_api_key`, for one that cannot stand in a header; it is not shown.
    """
    key = (given or os.environ.get(API_KEY) or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise BadRequest(
            "invalid_api_key", "the API key is no key", next_step="pass it as `tally keys create` shows it"
        )
    return key or None


def defaults_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The tags of everything that a client does.

    Raises:
        TypeError: a name that is no tag.
    """
    org_id = os.environ.get(ORG)
    environment = {"org_id": org_id} if org_id else {}
    return environment | {name: value for name, value in checked(given).items() if value is not None}


def spool_path(given: SpoolPlace, base_url: str) -> Path | None:
    """The spool's file: one for each server, so that what an earlier process left is found, whatever its key was."""
    if given is False:
        return None
    if given is not None:
        return Path(given)
    name = hashlib.sha256(base_url.encode()).hexdigest()[:16]
    return _folder() / f"spool-{name}.sqlite"


def _folder() -> Path:
    told = os.environ.get(SPOOL_DIR)
    if told:
        return Path(told)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "tallystick"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "tallystick"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "tallystick"
