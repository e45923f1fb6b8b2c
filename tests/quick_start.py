"""Tallystick on a copy of a database that this process has migrated and looked over already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tallystick.app.settings import Settings

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
"""What the fixed clock of `runtime` says: October 2026 is over everywhere."""
cards_of_template: list[object] = []
"""The rate cards that the template of all databases has."""


@contextmanager
def opened_quickly(database_url: str, folder: Path) -> Iterator[Any]:
    """A running Tallystick, its clock fixed at `NOW`. Its database is not migrated and looked over again."""
    import tallystick.app.runtime as app

    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(app, "_look_over", lambda *_, **__: cards_of_template[-1])
            settings = Settings(database_url=database_url, data_dir=folder)
            opened = stack.enter_context(app.open_runtime(settings, lambda: NOW))
        yield opened
