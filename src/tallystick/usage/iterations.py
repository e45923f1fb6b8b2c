"""Anthropic's `usage.iterations`: one answer, several samplings, some of them on another model.

The counts at the top of `usage` are the sum of the iterations of type `message`. Making room in the context
(`compaction`) and asking another model for advice (`advisor_message`) are billed besides, and stand only
in the list (platform.claude.com, "Compaction" and "Advisor tool"). Each iteration is a sampling
with a prompt of its own, so long-context prices look at each alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.usage.reading import Reported, read_usage
from tallystick.usage.table import Extractor

_SUMMED = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def read_iterations(
    extractor: Extractor, usage: Mapping[str, Any], top: Reported, model: str | None
) -> list[tuple[str | None, Reported]]:
    """The parts of an answer, each with its model (None for the answer's own); together they are all of it.

    Raises:
        BadInput: `invalid_iterations`, or what reading a usage object raises.
    """
    listed = usage.get("iterations")
    if not listed or not extractor.is_messages_api:
        return [(None, top)]
    if not isinstance(listed, Sequence) or not all(isinstance(item, Mapping) for item in listed):
        raise BadInput(
            "invalid_iterations",
            "it is not a list of usage objects",
            next_step="send the answer as the provider gave it",
            where=f"{extractor.root_path}.iterations",
        )
    read = [
        (item, read_usage(extractor, item, f"{extractor.root_path}.iterations[{index}]"))
        for index, item in enumerate(listed)
    ]
    own = [reported for item, reported in read if _is_own_message(item, model)]
    besides = [(_other_model(item, model), reported) for item, reported in read if not _is_own_message(item, model)]
    if all(sum(part[key] for part in own) == top[key] for key in _SUMMED) and own:
        return [(None, part) for part in _share(top, own)] + besides
    # The list does not explain the top: what is at the top stays one part, and nothing is lost.
    return [(None, top), *besides]


def _is_own_message(item: Mapping[str, Any], model: str | None) -> bool:
    return item.get("type", "message") == "message" and _other_model(item, model) is None


def _other_model(item: Mapping[str, Any], model: str | None) -> str | None:
    named = item.get("model")
    return named if isinstance(named, str) and named and named != model else None


def _share(top: Reported, own: list[Reported]) -> list[Reported]:
    """What only the top states, given to the iterations: thinking up to each one's output, the rest to the first."""
    only_top = {key: quantity for key, quantity in top.quantities.items() if all(key not in part for part in own)}
    thinking = only_top.pop("output_reasoning_tokens", 0)
    shared: list[Reported] = []
    for part in own:
        mine = min(thinking, part["output_tokens"])
        thinking -= mine
        extra = {**only_top, "output_reasoning_tokens": mine}
        only_top = {}
        shared.append(replace(part, quantities={**part.quantities, **extra}, paths={**top.paths, **part.paths}))
    return shared
