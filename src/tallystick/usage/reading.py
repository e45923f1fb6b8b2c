"""Reading one usage object by its extractor: plain whole numbers, or a clear refusal that names the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.usage.meters import QUANTITY_MAX
from tallystick.usage.table import Extractor, Field, Step

_SECONDS = frozenset({"audio_seconds", "input_audio_seconds", "output_audio_seconds"})
"""Classes that are stated in seconds, with a fraction; everything else is counted in whole units."""


WHOLE_OF_CAPPED = "completion_tokens"
"""The field that a `capped` one is a part of."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What an answer states, in the source's inclusive classes: a whole contains its parts.

    `quantities` are whole numbers; durations are in milliseconds here. `paths` says which field of the
    answer each class came from, for errors that a person can act on.
    """

    quantities: Mapping[str, int]
    paths: Mapping[str, str]

    def __getitem__(self, usage_key: str) -> int:
        return self.quantities.get(usage_key, 0)

    def __contains__(self, usage_key: object) -> bool:
        return usage_key in self.quantities

    def path(self, *usage_keys: str) -> str:
        """The fields behind these classes, as a person finds them in the answer."""
        return ", ".join(dict.fromkeys(self.paths[key] for key in usage_keys if key in self.paths))


def walk(value: Any, steps: Sequence[Step]) -> list[Any]:
    """Everything at the end of a path; nothing where the path leads nowhere or to null."""
    for position, step in enumerate(steps):
        if type(step) is tuple:
            return _walk_items(value, step, steps[position + 1 :])
        if type(value) is not dict:
            return []
        value = value.get(step)
    return [] if value is None else [value]


def first(value: Any, path: str) -> Any:
    """The value at a path of plain keys, or None."""
    for step in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _walk_items(value: Any, step: tuple[str, str], rest: Sequence[Step]) -> list[Any]:
    name, wanted = step
    items = value if isinstance(value, list) else []
    chosen = [item for item in items if isinstance(item, dict) and item.get(name) == wanted]
    return [found for item in chosen for found in walk(item, rest)]


def read_usage(extractor: Extractor, usage: Mapping[str, Any], root: str | None = None) -> Reported:
    """What a usage object states.

    Args:
        extractor: the API that it belongs to.
        usage: the object at the extractor's root, or one of the same shape.
        root: where it stands, for errors; the extractor's root when left out.

    Raises:
        BadInput: `missing_usage_field` when a required field is not there, `invalid_quantity` when a field is
            not a whole number from 0 to 10**12 (booleans, fractions and numbers in quotes are none), and
            `no_usage` when not one field is there.
    """
    place = extractor.root_path if root is None else root
    quantities: dict[str, int] = {}
    paths: dict[str, str] = {}
    for field in extractor.fields:
        values = walk(usage, field.steps)
        if not values or not _counts(field, usage, quantities):
            if field.mode == "required":
                raise _missing(extractor, field, place)
            continue
        where = f"{place}.{field.path}"
        value = values[0]
        if type(value) is int and 0 <= value <= QUANTITY_MAX and len(values) == 1 and field.usage_key not in _SECONDS:
            amount = value  # as nearly all are
        else:
            amount = sum(_quantity(value, where, in_seconds=field.usage_key in _SECONDS) for value in values)
        quantities[field.usage_key] = quantities.get(field.usage_key, 0) + amount
        paths.setdefault(field.usage_key, where)
        if field.mode == "capped":
            whole = sum(_quantity(value, f"{place}.{WHOLE_OF_CAPPED}") for value in walk(usage, (WHOLE_OF_CAPPED,)))
            quantities[field.usage_key] = min(quantities[field.usage_key], whole)
    if not quantities:
        raise no_usage(f"{place} holds none of the fields that {extractor.provider}/{extractor.flavor} answers have")
    return Reported(quantities, paths)


def no_usage(detail: str) -> BadInput:
    """The refusal of an answer that states no usage."""
    return BadInput("no_usage", detail, next_step="send the whole answer, or name its --provider and --flavor")


def _counts(field: Field, usage: Mapping[str, Any], quantities: Mapping[str, int]) -> bool:
    if field.mode == "otherwise":
        return field.usage_key not in quantities
    if field.mode == "outside_total":
        prompt, completion, total = (usage.get(f"{name}_tokens") for name in ("prompt", "completion", "total"))
        if isinstance(prompt, int) and isinstance(completion, int):
            return bool(prompt + completion != total)
    return True


def _quantity(value: Any, where: str, *, in_seconds: bool = False) -> int:
    """A quantity as a whole number, durations in milliseconds (half to even)."""
    most = QUANTITY_MAX // 1000 if in_seconds else QUANTITY_MAX  # milliseconds are what is metered
    if in_seconds and isinstance(value, Decimal) and 0 <= value <= most:
        return int((value * 1000).to_integral_value(ROUND_HALF_EVEN))
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise _invalid(f"{_shown(value)} is not a number", where)
    if value < 0:
        raise _invalid(f"{_shown(value)} is less than nothing", where)
    if value > most:
        raise _invalid(f"{_shown(value)} is more than 10^{9 if in_seconds else 12}, which no answer can hold", where)
    if isinstance(value, Decimal):
        raise _invalid(f"{_shown(value)} is not a whole number", where)
    return value * 1000 if in_seconds else value


def _shown(value: Any) -> str:
    try:
        text = str(value) if isinstance(value, Decimal) else repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "the number"
    return text if len(text) <= 40 else text[:40] + "…"


def _invalid(detail: str, where: str) -> BadInput:
    return BadInput(
        "invalid_quantity", detail, next_step="send the answer as the provider gave it; quantities are whole numbers",
        where=where,
    )  # fmt: skip


def _missing(extractor: Extractor, field: Field, place: str) -> BadInput:
    return BadInput(
        "missing_usage_field",
        f"{extractor.provider}/{extractor.flavor} answers state {field.path}, and this one does not",
        next_step="send the whole answer, or name the --provider and --flavor that gave it",
        where=f"{place}.{field.path}",
    )
