"""Records what the price source itself computes, release by release. A developer's command:

    python tests/unit/rates_golden.py WHEEL_DIR > tests/unit/rates_golden.jsonl

WHEEL_DIR is the one that `tallystick.app.rates_history` reads. Each release is asked by its own code, in a
process of its own, a second after it was published and (from 0.0.59 on) a year and a half later. Its answers
before 0.0.59 are only recorded where its arithmetic was already right: until then it left classes without a
price of their own uncharged, until 0.0.49 it priced tiers marginally, until 0.0.22 it charged cached tokens twice.

A line is [release, instant, provider, model, context, meters, usd].
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

ASK = """
import json, sys
from datetime import datetime
from types import ModuleType

class Unused(ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **options: None

for name in ("httpx", "httpx2"):
    sys.modules[name] = Unused(name)
sys.path.insert(0, sys.argv[1])
from genai_prices.data import providers
from genai_prices.types import Usage

usages = json.loads(sys.argv[3])
for provider in providers:
    for model in provider.models:
        contexts = [None] + [v.when for v in getattr(model, "price_variants", None) or [] if v.prices.__dict__]
        for context in contexts:
            at = datetime.fromisoformat(sys.argv[2])
            prices = model.get_prices(at, context) if context else model.get_prices(at)
            for number, usage in enumerate(usages):
                price = prices.calc_price(Usage(**usage))
                total = price["total_price"] if isinstance(price, dict) else price
                print(json.dumps([provider.id, model.id, context, number, str(total)]))
"""

SMALL = ({"input_tokens": 1000, "output_tokens": 100}, {"tokens_in": 1000, "tokens_out": 100})
LARGE = ({"input_tokens": 300_000, "output_tokens": 1000}, {"tokens_in": 300_000, "tokens_out": 1000})
CACHED = (
    {"input_tokens": 1000, "output_tokens": 100, "cache_read_tokens": 200, "cache_write_tokens": 100},
    {"tokens_in": 700, "tokens_out": 100, "cache_read_tokens": 200, "cache_write_tokens": 100},
)
SAMPLE_ONE_IN = 150


def number(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def chosen(*parts: object) -> bool:
    """A sample that is the same on every machine."""
    return int(hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8], 16) % SAMPLE_ONE_IN == 0


def main() -> None:
    wheels = Path(sys.argv[1])
    published = json.loads((wheels / "known_at.json").read_text())
    for release in sorted(published, key=number):
        if release == "0":
            continue
        usages = [SMALL] + [LARGE] * (number(release) >= (0, 0, 50)) + [CACHED] * (number(release) >= (0, 0, 59))
        delays = [timedelta(seconds=1)] + [timedelta(days=540, hours=17)] * (number(release) >= (0, 0, 59))
        for delay in delays:
            at = (datetime.fromisoformat(published[release]) + delay).isoformat()
            wheel = next(wheels.glob(f"genai_prices-{release}-*.whl"))
            command = [sys.executable, "-I", "-c", ASK, str(wheel), at, json.dumps([usage for usage, _ in usages])]
            answers = subprocess.run(command, capture_output=True, check=True, text=True).stdout
            for line in answers.splitlines():
                provider, model, context, which, usd = json.loads(line)
                if chosen(release, provider, model, context, which, at):
                    words = {
                        {"processing": "service_tier"}.get(key, key): value for key, value in (context or {}).items()
                    }
                    sys.stdout.write(json.dumps([release, at, provider, model, words, usages[which][1], usd]) + "\n")


if __name__ == "__main__":
    main()
