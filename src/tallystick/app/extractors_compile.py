"""Write `usage/extractors.json` from the pinned genai-prices: a developer's command, never run in production.

    python -m tallystick.app.extractors_compile > src/tallystick/usage/extractors.json

The same release gives the same bytes, so that the difference between two releases is what a reviewer reads.
What we read otherwise stands in `usage/corrections.json`, which is written by hand and survives a new release.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from typing import Any


def compile_extractors() -> str:
    """The table as reviewed text: every extractor of the source, one mapping a line.

    Raises:
        ValueError: the source has a kind of path that this project has no notation for.
    """
    from genai_prices.data import providers

    blocks = [_block(provider.id, extractor) for provider in providers for extractor in provider.extractors or ()]
    source = f"genai-prices {importlib.metadata.version('genai-prices')}"
    return f'{{\n"source": {json.dumps(source)},\n"extractors": [\n' + ",\n".join(blocks) + "\n]\n}\n"


def _block(provider: str, extractor: Any) -> str:
    head = {
        "provider": provider,
        "flavor": extractor.api_flavor,
        "root": _path(extractor.root),
        "model": _path(extractor.model_path),
    }
    rows = [
        [_path(mapping.path), mapping.dest, "required" if mapping.required else "optional"]
        for mapping in extractor.mappings
    ]
    mappings = ",\n".join("  " + json.dumps(row) for row in rows)
    return json.dumps(head)[:-1] + ', "mappings": [\n' + mappings + "]}"


def _path(path: Any) -> str:
    """`a.b[field=value].c`: keys joined by dots, one item of an array chosen by the value of a field."""
    text = ""
    for step in [path] if isinstance(path, str) else path:
        if isinstance(step, str):
            if set(step) & set(".[]="):
                raise ValueError(f"no notation for the key {step!r}")
            text += f".{step}" if text else step
        elif hasattr(step.match, "equals"):
            text += f"[{step.field}={step.match.equals}]"
        else:
            raise ValueError(f"no notation for the match {step!r}")
    return text


if __name__ == "__main__":
    sys.stdout.write(compile_extractors())
