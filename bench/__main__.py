"""`python -m bench [NAME …]`: run the benchmarks named, or all but those that take long; print one table."""

from __future__ import annotations

import importlib
import sys

from bench.report import Row, show

NAMES = (
    "pricing",
    "policy",
    "journal",
    "ingest",
    "http_ingest",
    "decisions",
    "gateway",
    "close",
    "documents",
    "rollup",
    "seal",
    "replay",
)
ON_REQUEST = ("growth", "memory", "close_many")
"""What takes long, and runs only when it is named."""


def main() -> None:
    chosen = sys.argv[1:] or list(NAMES)
    unknown = set(chosen) - {*NAMES, *ON_REQUEST}
    if unknown:
        sys.exit(f"no benchmark named {', '.join(sorted(unknown))}; there are {', '.join((*NAMES, *ON_REQUEST))}")
    rows: list[Row] = []
    for name in chosen:
        print(f"running {name} …", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"bench.{name}").run()
    show(rows)
    sys.exit(0 if all(row.met is not False for row in rows) else 1)


main()
