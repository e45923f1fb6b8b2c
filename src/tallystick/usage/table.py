"""The table of extractors: which fields of an answer hold which quantities, one row for each API of a provider.

It is read from two texts that are passed in: `extractors.json`, compiled from genai-prices, and
`corrections.json`, written by hand where that source reads a field wrongly, late or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import msgspec

from tallystick.core.errors import BadInput

Mode = Literal["required", "optional", "otherwise", "outside_total", "capped"]
"""How a field counts.

required       an answer without it is not of this API
optional       counted when it is there
otherwise      counted only when no field before it gave its class
outside_total  counted unless the answer's own total shows that it is already inside the completion
capped         counted up to the class that it is a part of
"""

Step = str | tuple[str, str]
"""A key, or (field, value): the items of an array whose field has that value."""

_STEP = re.compile(r"\[(?P<field>\w+)=(?P<value>[^\]]+)\]|(?P<key>[^.\[\]]+)")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a usage object: where it stands, the class of usage that it adds to, and how."""

    path: str
    steps: tuple[Step, ...]
    usage_key: str
    mode: Mode

    @property
    def required(self) -> bool:
        """Whether an answer without it is not of this API."""
        return self.mode == "required"


@dataclass(frozen=True, slots=True)
class Extractor:
    """How the answers of one API of one provider are read."""

    provider: str
    flavor: str
    root: tuple[Step, ...]
    model: tuple[Step, ...]
    fields: tuple[Field, ...]

    @property
    def root_path(self) -> str:
        """Where the usage object stands, as a person writes it."""
        return ".".join(str(step) for step in self.root)

    def reads(self, path: str) -> bool:
        """Whether a field of that path is read at all."""
        return any(field.path == path for field in self.fields)

    @property
    def is_messages_api(self) -> bool:
        """Whether it is Anthropic's Messages API, whoever answers it: input leaves cached tokens out."""
        return self.reads("cache_read_input_tokens") and self.reads("output_tokens")


@dataclass(frozen=True, slots=True)
class ExtractorTable:
    """Every extractor by provider and flavor, in the order of the table."""

    source: str
    rows: Mapping[str, Mapping[str, Extractor]]

    def flavors(self, provider: str) -> Mapping[str, Extractor]:
        """The extractors of a provider by flavor.

        Raises:
            BadInput: `unknown_provider`.
        """
        try:
            return self.rows[provider]
        except KeyError:
            raise BadInput(
                "unknown_provider",
                f"answers of {provider!r} cannot be read",
                next_step=f"name one of: {', '.join(sorted(self.rows))}",
                where="provider",
            ) from None

    def get(self, provider: str, flavor: str) -> Extractor:
        """One extractor.

        Raises:
            BadInput: `unknown_provider` or `unknown_flavor`.
        """
        flavors = self.flavors(provider)
        try:
            return flavors[flavor]
        except KeyError:
            raise BadInput(
                "unknown_flavor",
                f"{provider} has no API flavor {flavor!r}",
                next_step=f"name one of: {', '.join(flavors)}; or leave it out, and the one that fits is chosen",
                where="flavor",
            ) from None


def parse_table(extractors: bytes, corrections: bytes) -> ExtractorTable:
    """The table from its two texts, corrected.

    Raises:
        ValueError: a text of the table itself is wrong; both are part of the program.
    """
    compiled = msgspec.json.decode(extractors)
    by_hand = msgspec.json.decode(corrections)
    rows: dict[str, dict[str, Extractor]] = {}
    for row in compiled["extractors"]:
        _put(rows, _extractor(row))
    for row in by_hand["additions"]:
        if "like" in row:
            provider, flavor = row["like"]
            like = rows[provider][flavor]
            _put(rows, replace(like, provider=row["provider"], flavor=row["flavor"]))
        else:
            _put(rows, _extractor(row))
    for correction in by_hand["corrections"]:
        touched = [extractor for extractor in _all(rows) if _selects(correction, extractor)]
        if not touched:
            raise ValueError(f"a correction that corrects nothing: {correction['why']}")
        for extractor in touched:
            rows[extractor.provider][extractor.flavor] = _correct(extractor, correction)
    return ExtractorTable(compiled["source"], rows)


def parse_path(text: str) -> tuple[Step, ...]:
    """The steps of a path such as `details[modality=AUDIO].tokenCount`."""
    return tuple(match["key"] or (match["field"], match["value"]) for match in _STEP.finditer(text))


def _all(rows: Mapping[str, Mapping[str, Extractor]]) -> list[Extractor]:
    return [extractor for flavors in rows.values() for extractor in flavors.values()]


def _put(rows: dict[str, dict[str, Extractor]], extractor: Extractor) -> None:
    flavors = rows.setdefault(extractor.provider, {})
    if extractor.flavor in flavors:
        raise ValueError(f"{extractor.provider}/{extractor.flavor} is there twice")
    flavors[extractor.flavor] = extractor


def _extractor(row: Mapping[str, Any]) -> Extractor:
    fields = tuple(_fields(row["mappings"]))
    return Extractor(row["provider"], row["flavor"], parse_path(row["root"]), parse_path(row["model"]), fields)


def _fields(rows: Iterable[list[str]]) -> Iterable[Field]:
    for path, usage_key, mode in rows:
        if mode not in get_args(Mode):
            raise ValueError(f"unknown mode {mode!r}")
        yield Field(path, parse_path(path), usage_key, cast(Mode, mode))


def _selects(correction: Mapping[str, Any], extractor: Extractor) -> bool:
    return (
        extractor.provider in correction.get("providers", [extractor.provider])
        and extractor.flavor in correction.get("flavors", [extractor.flavor])
        and all(extractor.reads(path) for path in correction.get("reads", ()))
    )


def _correct(extractor: Extractor, correction: Mapping[str, Any]) -> Extractor:
    changed = {(field.path, field.usage_key): field for field in _fields(correction.get("change", ()))}
    kept = [changed.pop((field.path, field.usage_key), field) for field in extractor.fields]
    if changed:
        raise ValueError(f"nothing to change at {sorted(changed)} of {extractor.provider}/{extractor.flavor}")
    present = {(field.path, field.usage_key) for field in kept}
    added = [field for field in _fields(correction.get("add", ())) if (field.path, field.usage_key) not in present]
    return replace(extractor, fields=(*kept, *added))
