"""`POST /v1/events` of `tally serve`, in batches of 500 from several callers, beside the same batches without HTTP.

Callers, server and database share the machine's cores, as they would not where they are apart.
"""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.report import Row
from tallystick.app.ingest import ingest_events
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings

EVENTS = 50_000
BATCH = 500
CALLERS = 4
_MODELS = (("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro"))


def run() -> list[Row]:
    """Events a second over HTTP, in batches and one by one, and of the same batches given to the use case itself."""
    with tempfile.TemporaryDirectory(prefix="tally-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with open_runtime(Settings(data_dir=folder)) as runtime:
            batches = [_events(start, "direct") for start in range(0, EVENTS, BATCH)]
            begun = time.perf_counter()
            for batch in batches:
                assert all(result.status == "accepted" for result in ingest_events(runtime, batch))
            direct = time.perf_counter() - begun
            port, server = _serve(folder)
            try:
                bodies = [json.dumps(_events(start, "http")).encode() for start in range(0, EVENTS, BATCH)]
                batched = _send(port, bodies, accepted=BATCH)
                singles = [json.dumps(event).encode() for event in _events(0, "single", 2000)]
                alone = _send(port, singles, accepted=1)
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(30)
    baseline = f"without HTTP, one caller: {EVENTS / direct:,.0f} events/s"
    return [
        Row(f"POST /v1/events, batches of {BATCH}, {CALLERS} callers", f"{EVENTS / batched:,.0f} events/s", baseline),
        Row(f"POST /v1/events, one event each, {CALLERS} callers", f"{2000 / alone:,.0f} requests/s"),
    ]


def _serve(folder: Path) -> tuple[int, subprocess.Popen[str]]:
    command = [sys.executable, "-c", "from tallystick.cli.main import main; main()", "serve"]
    command += ["--port", "0", "--data-dir", str(folder)]
    log = folder / "serve.log"
    server = subprocess.Popen(command, stderr=log.open("w"), text=True)
    while not (found := re.search(r"listening on \S+:(\d+)", log.read_text())):
        assert server.poll() is None, log.read_text()
        time.sleep(0.05)
    return int(found[1]), server


def _send(port: int, bodies: list[bytes], *, accepted: int) -> float:
    def send(mine: list[bytes]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for body in mine:
            connection.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
            answer = connection.getresponse().read()
            assert f'"accepted":{accepted},'.encode() in answer[-80:], answer[:500]
        connection.close()

    begun = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(send, [bodies[caller::CALLERS] for caller in range(CALLERS)]))
    return time.perf_counter() - begun


def _events(start: int, prefix: str, count: int = BATCH) -> list[dict[str, object]]:
    return [_event(number, prefix) for number in range(start, start + count)]


def _event(number: int, prefix: str) -> dict[str, object]:
    provider, model = _MODELS[number % len(_MODELS)]
    return {
        "org_id": f"org-{number % 50}",
        "request_id": f"{prefix}-{number}",
        "time": f"2026-10-{number % 28 + 1:02d}T{number % 24:02d}:00:00Z",
        "user_id": f"user-{number % 500}",
        "session_id": f"session-{number % 5000}",
        "feature": "chat",
        "environment": "production",
        "provider": provider,
        "model": model,
        "meters": {"tokens_in": 100 + number % 3000, "tokens_out": number % 700, "cache_read_tokens": number % 900},
        "latency_ms": number % 5000,
    }
