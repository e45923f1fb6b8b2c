"""From one answer of a provider to what it used: meters, price context, the provider's own cost.

    table = parse_table(extractors_json, corrections_json)
    used = extract(table, decode_body(text), provider="anthropic")

Pure: the table's texts and the answer are passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from tallystick.core.errors import BadInput
from tallystick.usage.detect import detect, fitting_extractor
from tallystick.usage.event import UsageStatus
from tallystick.usage.inclusion import disjoint_meters
from tallystick.usage.iterations import read_iterations
from tallystick.usage.reading import first, no_usage, read_usage, walk
from tallystick.usage.searches import counted_searches
from tallystick.usage.table import Extractor, ExtractorTable
from tallystick.usage.terms import price_context, provider_cost_pico

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_BOM = b"\xef\xbb\xbf"
MODEL_NAME_MAX = 512
"""The longest name of a model, in characters."""


@dataclass(frozen=True, slots=True)
class Part:
    """One sampling of an answer: its meters, and the model when it is not the answer's own."""

    meters: Mapping[str, int]
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Extracted:
    """What one answer used.

    Attributes:
        provider: who answered.
        flavor: which of its APIs.
        model: the model as the provider named it; None when the answer names none.
        parts: one for each sampling that the provider bills on its own; nearly always one.
        price_context: what else decides the price, as served.
        provider_cost_pico: what the provider itself says the whole cost, in pico-USD.
        status: `final`, `partial` (a stream broke off) or `estimated` (no usage was stated).
    """

    provider: str
    flavor: str
    model: str | None
    parts: tuple[Part, ...]
    price_context: Mapping[str, str] = field(default_factory=dict)
    provider_cost_pico: int | None = None
    status: UsageStatus = "final"

    @property
    def meters(self) -> dict[str, int]:
        """The quantities of the answer's own model, over all its parts."""
        total: dict[str, int] = {}
        for part in self.parts:
            if part.model is None:
                for name, quantity in part.meters.items():
                    total[name] = total.get(name, 0) + quantity
        return total


def decode_body(text: bytes) -> dict[str, Any]:
    """One JSON object; numbers with a fraction stay exact (`Decimal`), a byte order mark is let through.

    Raises:
        BadInput: `empty_input`, `invalid_utf8`, `malformed_json`, `too_deep` or `not_an_object`.
    """
    text = text.removeprefix(_BOM)
    if not text.strip():
        raise BadInput("empty_input", "there is nothing to read", next_step="send one JSON object")
    try:
        text.decode()
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise BadInput(
            "invalid_utf8", f"byte {error.start} is not UTF-8", next_step="save the file as UTF-8 and send it again"
        ) from None
    except RecursionError:
        raise BadInput(
            "too_deep", "the JSON is nested too deeply", next_step="send the answer as the provider gave it"
        ) from None
    except InvalidOperation:
        raise BadInput(
            "malformed_json",
            "it holds a number with an exponent that no number has",
            next_step="send the answer as the provider gave it",
        ) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise BadInput("malformed_json", f"it is not JSON: {error}", next_step="send one whole JSON object") from None
    if not isinstance(value, dict):
        kind = "an array" if isinstance(value, list) else "a single value"
        raise BadInput("not_an_object", f"it is {kind}, not an object", next_step="send one JSON object a line")
    return value


def extract(
    table: ExtractorTable,
    body: Mapping[str, Any],
    *,
    provider: str | None = None,
    flavor: str | None = None,
    model: str | None = None,
    status: UsageStatus = "final",
) -> Extracted:
    """What an answer used, in meters that never overlap.

    Args:
        table: the extractors.
        body: the decoded answer.
        provider: who answered, by id or a usual name; found out from the answer when left out.
        flavor: which API; the one that fits the answer when left out.
        model: the model, for answers that do not name it.
        status: `partial` when the answer is the fold of a stream that broke off.

    Raises:
        BadInput: `provider_error` when the provider refused the request, `no_usage`, `unknown_provider`,
            `unknown_flavor`, `missing_usage_field`, `invalid_quantity`, `contradictory_usage`,
            `invalid_cost`, `invalid_iterations` or `invalid_model`; `where` names the field.
    """
    extractor = choose(table, body, provider, flavor, model)
    usage = next(iter(walk(body, extractor.root)), None)
    if not isinstance(usage, Mapping):
        raise _without_usage(body, extractor)
    name = _model_name(extractor, body) or model
    top = read_usage(extractor, usage)
    parts = [Part(disjoint_meters(read), other) for other, read in read_iterations(extractor, usage, top, name)]
    searches = counted_searches(extractor.provider, extractor.flavor, name, body)
    if searches:
        parts[0] = Part({**parts[0].meters, **{key: value for key, value in searches.items() if value}})
    return Extracted(
        extractor.provider,
        extractor.flavor,
        name,
        tuple(parts),
        price_context(body),
        provider_cost_pico(extractor.provider, body),
        status,
    )


def choose(
    table: ExtractorTable, body: Mapping[str, Any], provider: str | None, flavor: str | None, model: str | None
) -> Extractor:
    """The extractor named, or the one that fits the answer.

    Raises:
        BadInput: `provider_error`, `no_usage`, `unknown_provider` or `unknown_flavor`.
    """
    if provider is None:
        found = detect(body, model)
        if found is None:
            raise _without_usage(body, None)
        provider = found
    extractor = fitting_extractor(table, body, provider, flavor, model)
    if extractor is None:
        raise _without_usage(body, None)
    return extractor


def _model_name(extractor: Extractor, body: Mapping[str, Any]) -> str | None:
    name = next(iter(walk(body, extractor.model)), None)
    if name is None:
        return None
    if not isinstance(name, str) or len(name) > MODEL_NAME_MAX:
        raise BadInput(
            "invalid_model",
            "it is not the name of a model",
            next_step="send the answer as the provider gave it",
            where=".".join(str(step) for step in extractor.model),
        )
    return name or None


def _without_usage(body: Mapping[str, Any], extractor: Extractor | None) -> BadInput:
    refusal = provider_refusal(body)
    if refusal is not None:
        return BadInput(
            "provider_error",
            f"the provider refused the request, so it used nothing: {refusal[:300]}",
            next_step="record the request as a failure, without usage",
        )
    at = f" at {extractor.root_path} of a {extractor.provider}/{extractor.flavor} answer" if extractor else ""
    return no_usage(f"the answer states no usage{at}")


def provider_refusal(body: Mapping[str, Any]) -> str | None:
    """What a provider's error answer says, or None for an answer that is none."""
    error = body.get("error")
    for path in ("error.message", "message", "detail"):
        said = first(body, path)
        if isinstance(said, str) and said:
            return said
    if isinstance(error, str) and error:
        return error
    if error or body.get("type") == "error":
        return msgspec.json.encode(error or body, enc_hook=str).decode()
    return None
