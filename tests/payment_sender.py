"""A process that takes one callback several times at once, and dies at a step by SIGKILL where one is named.

`payment_sender DATABASE FOLDER STRIPE BODY NOW TIMES [STEP]` prints what each time came to.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from fake_stripe import KEY, SECRET, signed
from tallystick.app.payment_events import take_callback
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.journal import steps


def main() -> None:
    """Take it, and say what became of it."""
    database_url, folder, stripe_url, body, now, times, *rest = sys.argv[1:]

    def reached(step: str) -> None:
        if step in rest:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = Settings(
        database_url=database_url,
        data_dir=folder,
        stripe_api_key=KEY,
        stripe_webhook_secret=SECRET,
        stripe_api_base=stripe_url,
    )
    content = body.encode()
    with open_runtime(settings, lambda: datetime.fromisoformat(now)) as runtime:
        steps.install(reached)

        def take(_: int) -> dict[str, object]:
            return take_callback(runtime, "stripe", signed(content), content).receipt()

        with ThreadPoolExecutor(int(times)) as pool:
            sys.stdout.write(json.dumps(list(pool.map(take, range(int(times))))))
