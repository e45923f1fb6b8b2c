"""Memory of `tally serve` over ten million events in batches of 500, in a run of its own: `python -m bench memory`.

The resident memory of all its processes together (without the database's) after one million events, and at the end.
"""

from __future__ import annotations

from pathlib import Path

from bench.http_ingest import BATCH, BATCH_CONNECTIONS, WORKERS, send, serving
from bench.journal import bench_runtime
from bench.report import Row

EVENTS = 10_000_000
FIRST_EVENTS = 1_000_000
GROWTH_MAX = 1.1


def run(events: int = EVENTS) -> list[Row]:
    with bench_runtime() as runtime, serving(runtime.settings.data_dir) as port:
        send(port, BATCH_CONNECTIONS, BATCH, FIRST_EVENTS, prefix="memory")
        early = _resident_mb()
        rest = send(port, BATCH_CONNECTIONS, BATCH, events - FIRST_EVENTS, prefix="memory", first=FIRST_EVENTS)
        late = _resident_mb()
    return [
        Row(
            f"memory of {WORKERS} workers and their parent after {events:,} events",
            f"{late:,.0f} MB ({rest.rate:,.0f} events/s)",
            f"after {FIRST_EVENTS:,}: {early:,.0f} MB",
            f"{GROWTH_MAX} times at most",
            late <= GROWTH_MAX * early,
        )
    ]


def _resident_mb() -> float:
    """Of every process of `tally serve` that runs on this machine."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if b"tallystick.cli.workers" in command or (b"tallystick.cli.main" in command and b"serve" in command):
                total += int((folder / "statm").read_text().split()[1]) * 4096
        except OSError:  # it has just ended
            continue
    return total / 1e6
