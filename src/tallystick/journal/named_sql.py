"""SQL lives in `sql/*.sql`, every query with a name and a comment, and is loaded by that name."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: ([a-z0-9_]+)\n", re.MULTILINE)


@cache
def load_queries(name: str) -> MappingProxyType[str, bytes]:
    """The queries of `sql/NAME.sql` by name; each begins with a line `-- name: QUERY`."""
    _, *parts = _NAME.split((files("tallystick.journal") / "sql" / f"{name}.sql").read_text(encoding="utf-8"))
    return MappingProxyType({query: text.strip().encode() for query, text in zip(parts[::2], parts[1::2], strict=True)})
