"""Reads a genai-prices wheel and prints its price data as JSON, in a process of its own.

    python rates_dump.py WHEEL

Every release carries its own Python classes, and they change between releases, so a release can only be
read by its own code: this file is run by path in a fresh interpreter whose `sys.path` begins with the
wheel (a pure wheel is a zip file that Python can import from). It therefore imports nothing of ours.

Printed is a JSON array of providers in the shape of the source's own `data.json`, but prices are decimal
strings, so that no float comes between the source and the card.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields, is_dataclass
from datetime import date, time
from decimal import Decimal
from types import ModuleType
from typing import Any

_CLAUSES = {
    "ClauseStartsWith": "starts_with",
    "ClauseEndsWith": "ends_with",
    "ClauseContains": "contains",
    "ClauseRegex": "regex",
    "ClauseEquals": "equals",
    "ClauseOr": "or",
    "ClauseAnd": "and",
}


def _members(value: Any) -> dict[str, Any]:
    """The public attributes of one of the source's objects, without those that are not set."""
    names = [field.name for field in fields(value)] if is_dataclass(value) else vars(value)
    pairs = ((name, getattr(value, name)) for name in names if not name.startswith("_"))
    return {name: _plain(item) for name, item in pairs if item is not None}


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one kind a line
    kind = type(value).__name__
    if kind in _CLAUSES:
        key = _CLAUSES[kind]
        return {key: _plain(getattr(value, key + "_" if key in {"or", "and"} else key))}
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, (str, int, float)):
        return value
    return _members(value)


def _provider(provider: Any) -> dict[str, Any]:
    wanted = {"id", "name", "models", "model_match", "provider_match", "fallback_model_providers"}
    members = {name: value for name, value in _members(provider).items() if name in wanted}
    kept = {"id", "match", "prices", "price_variants"}
    members["models"] = [{key: model[key] for key in model if key in kept} for model in members.get("models", [])]
    return members


class _Unused(ModuleType):
    """An HTTP client that releases import for an updater, which is never called here."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_args, **_options: None


def main() -> None:
    for unused in ("httpx", "httpx2"):
        sys.modules[unused] = _Unused(unused)
    sys.path.insert(0, sys.argv[1])
    from genai_prices import data

    if not str(data.__file__).startswith(sys.argv[1]):
        sys.exit("it holds no genai_prices")  # the one that happens to be installed is not what was asked for
    json.dump([_provider(provider) for provider in data.providers], sys.stdout)


if __name__ == "__main__":
    main()
