"""Lists in pages: a cursor names the last item of the page before, and outlives whatever is added since."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tallystick.core.errors import BadInput

T = TypeVar("T")


def page_after(
    items: Sequence[T], cursor: str | None, limit: int, *, name: Callable[[T], str]
) -> tuple[Sequence[T], str | None]:
    """The at most `limit` items that follow the one named `cursor`, and the cursor of the next page, or None.

    It holds for lists that only grow: the named item is still there.

    Raises:
        BadInput: `invalid_cursor`.
    """
    start = 0
    if cursor is not None:
        places = (place for place, item in enumerate(items, 1) if name(item) == cursor)
        found = next(places, None)
        if found is None:
            raise BadInput(
                "invalid_cursor",
                f"{cursor[:60]!r} is no cursor of this list",
                next_step="use the next_cursor of the page before, or none for the first page",
                where="cursor",
            )
        start = found
    page = items[start : start + limit]
    return page, name(page[-1]) if start + limit < len(items) else None
