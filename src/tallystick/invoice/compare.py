"""What differs between an invoice as it was stored and as it was computed again, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was.

    Attributes:
        where: what it is about: a request ("request req-17, entry 17") or the invoice itself.
        field: the member that differs ("line tokens_in, amount_pico", "lines[2].amount_usd").
        stored: what is stored, as text; None when there is nothing.
        recomputed: what comes out now, as text; None when nothing does.
    """

    where: str
    field: str
    stored: str | None
    recomputed: str | None

    def sentence(self) -> str:
        """The difference for a person."""
        stored = "missing" if self.stored is None else self.stored
        recomputed = "nothing" if self.recomputed is None else self.recomputed
        return f"{self.where}: {self.field}: stored {stored}, recomputed {recomputed}"

    def as_dict(self) -> dict[str, str | None]:
        """The four members as plain JSON."""
        return asdict(self)


def document_differences(stored: Any, recomputed: Any, path: str = "") -> Iterator[Difference]:
    """Every member at which two plain JSON values differ, depth first, in the order of the document."""
    if isinstance(stored, dict) and isinstance(recomputed, dict):
        for key in [*stored, *(key for key in recomputed if key not in stored)]:
            yield from document_differences(stored.get(key), recomputed.get(key), f"{path}.{key}" if path else key)
    elif isinstance(stored, list | tuple) and isinstance(recomputed, list | tuple):
        for index in range(max(len(stored), len(recomputed))):
            before, after = (side[index] if index < len(side) else None for side in (stored, recomputed))
            yield from document_differences(before, after, f"{path}[{index}]")
    elif stored != recomputed or type(stored) is not type(recomputed):
        yield Difference("the invoice", path, _text(stored), _text(recomputed))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
