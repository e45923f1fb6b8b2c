"""A process that runs for long learns of newer rate cards: those added as files, and those another process loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tallystick.app.runtime import Runtime
from tallystick.journal.rate_versions import list_rate_versions

_Seen = frozenset[tuple[str, int, int]]


@dataclass(slots=True)
class RatesWatch:
    """Looks for newer rate cards; most looks cost one small query and one listing of a folder."""

    runtime: Runtime
    _files: _Seen = field(default=frozenset())

    def __post_init__(self) -> None:
        self._files = _card_files(self.runtime.settings.data_dir / "cards")

    def reload_if_newer(self) -> bool:
        """Read the cards again when there is one that this process does not know; whether the newest is another now.

        What is recorded from then on is priced with the newest. What was recorded keeps its version.

        Raises:
            Unavailable: `database_unreachable`; the cards stay as they were.
            BadInput: a card file cannot be read; likewise.
        """
        before = self.runtime.cards.versions[-1].sha256
        with self.runtime.database.operator() as connection:
            stored = list_rate_versions(connection)[-1].sha256
        files = _card_files(self.runtime.settings.data_dir / "cards")
        if stored == before and files == self._files:
            return False
        self.runtime.reload_cards()
        self._files = files
        return self.runtime.cards.versions[-1].sha256 != before


def _card_files(folder: Path) -> _Seen:
    if not folder.is_dir():
        return frozenset()
    states = ((path.name, path.stat()) for path in folder.glob("*.jsonl"))
    return frozenset((name, state.st_size, state.st_mtime_ns) for name, state in states)
