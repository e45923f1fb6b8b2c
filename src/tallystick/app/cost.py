"""What an answer of a provider cost: its usage read, priced by the rate card in force, and laid out in lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from tallystick.app.answers import Line, Terms, find_answers, hold_recorded_streams, open_envelope, too_large
from tallystick.app.cards import load_card_history
from tallystick.core.errors import BadInput
from tallystick.core.instants import Clock, format_instant
from tallystick.core.money import pico_to_usd
from tallystick.rates.card import RateCard
from tallystick.rates.model import Cost, CostLine
from tallystick.rates.pricing import ADJUSTMENT
from tallystick.usage.detect import provider_id
from tallystick.usage.extract import Extracted, decode_body, extract
from tallystick.usage.meters import meter_order
from tallystick.usage.streams import UsageStream
from tallystick.usage.table import ExtractorTable, parse_table


@cache
def load_extractors() -> ExtractorTable:
    """The table of extractors that is part of this package."""
    folder = resources.files("tallystick.usage")
    return parse_table(
        (folder / "extractors.json").read_bytes(),
        (folder / "corrections.json").read_bytes(),
    )


def latest_pricer(data_dir: Path, clock: Clock) -> AnswerPricer:
    """A pricer by the newest rate card known here: the bundled ones, and those added under `data_dir`/cards.

    Raises:
        BadInput: an added card cannot be read.
    """
    return AnswerPricer(load_card_history(data_dir / "cards").latest, load_extractors(), clock)


@dataclass(frozen=True, slots=True)
class PricedAnswer:
    """One answer: what it used, what that cost, and the instant whose prices applied."""

    used: Extracted
    cost: Cost
    at: datetime

    def as_dict(self) -> dict[str, Any]:
        """The answer as JSON members; amounts are decimal strings, `cost_usd` is None when it is unpriced."""
        others = sorted({part.model for part in self.used.parts if part.model is not None})
        context = {"price_context": dict(self.used.price_context)} if self.used.price_context else {}
        stated = self.used.provider_cost_pico
        return {
            "provider": self.used.provider,
            "flavor": self.used.flavor,
            "model": self.used.model,
            "usage": _in_order(self.used.meters),
            **({"usage_of_other_models": {model: self._usage_of(model) for model in others}} if others else {}),
            **context,
            "lines": [_line_dict(line) for line in self.cost.lines],
            "cost_usd": None if self.cost.total_pico is None else pico_to_usd(self.cost.total_pico),
            **({"priced_as": f"{self.cost.provider}/{self.cost.model}"} if self._has_rate() else {}),
            **({} if stated is None else {"provider_cost_usd": pico_to_usd(stated)}),
            "rate_version": self.cost.rate_version,
            "at": format_instant(self.at),
            "status": self.cost.status,
            **({} if self.cost.reason is None else {"reason": self.cost.reason}),
        }

    def _has_rate(self) -> bool:
        """Whether the card had a price for any of it, and not only the provider a sum."""
        return any(line.price_pico and line.meter != ADJUSTMENT for line in self.cost.lines)

    def _usage_of(self, model: str) -> dict[str, int]:
        total: dict[str, int] = {}
        for part in self.used.parts:
            if part.model == model:
                for meter, quantity in part.meters.items():
                    total[meter] = total.get(meter, 0) + quantity
        return _in_order(total)


class AnswerPricer:
    """Prices answers by one version of the rate card."""

    def __init__(self, card: RateCard, table: ExtractorTable, clock: Clock) -> None:
        """Begin; `clock` gives the instant for answers that come without one."""
        self._card = card
        self._table = table
        self._clock = clock

    def check_terms(self, terms: Terms) -> None:
        """Refuse at once what no answer could be read by.

        Raises:
            BadInput: `unknown_provider` or `unknown_flavor`, listing those there are.
        """
        if terms.provider is not None and terms.flavor is not None:
            self._table.get(provider_id(terms.provider), terms.flavor)
        elif terms.provider is not None:
            self._table.flavors(provider_id(terms.provider))

    def price_text(self, text: bytes, terms: Terms) -> PricedAnswer:
        """One answer or envelope, as JSON text.

        Raises:
            BadInput: it cannot be read; `where` names the field.
        """
        return self.price_value(decode_body(text), terms)

    def price_value(self, value: Mapping[str, Any], terms: Terms) -> PricedAnswer:
        """One decoded answer or envelope.

        Raises:
            BadInput: it cannot be read; `where` names the field.
        """
        answer, terms = open_envelope(value, terms)
        if isinstance(answer, bytes):
            return self.price_stream([answer], terms)
        used = extract(self._table, answer, provider=terms.provider, flavor=terms.flavor, model=_model(terms))
        return self._price(used, terms)

    def price_stream(self, blocks: Iterable[bytes], terms: Terms) -> PricedAnswer:
        """One recorded event stream, in blocks of bytes cut anywhere.

        Raises:
            BadInput: it holds no usage and no text of an answer.
        """
        stream = UsageStream(
            self._table, provider=terms.provider, flavor=terms.flavor, model=terms.model, request=terms.request
        )
        for block in blocks:
            stream.feed(block)
        return self._price(stream.finish(), terms)

    def _price(self, used: Extracted, terms: Terms) -> PricedAnswer:
        at = terms.at or self._clock()
        # What the caller says of the price (a batch, say) prevails: the answer itself may not know.
        used = replace(used, price_context={**used.price_context, **terms.price_context})
        cost = self._card.price_parts(
            used.provider,
            used.model or "",
            [(part.model, part.meters) for part in used.parts],
            at=at,
            price_context=used.price_context,
            usage_status=used.status,
            provider_cost_pico=used.provider_cost_pico,
        )
        return PricedAnswer(used, self._explained(used, cost), at)

    def _explained(self, used: Extracted, cost: Cost) -> Cost:
        """The cost, with a reason that helps where no model is named."""
        if used.provider_cost_pico is not None or used.model is not None:
            return cost
        reason = "the answer does not name its model, so no rate applies; say which one it was (--model)"
        return msgspec.structs.replace(cost, total_pico=None, status="unpriced", reason=reason)


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one line of a file: a priced answer, or the reason why it could not be read."""

    line: int
    result: PricedAnswer | BadInput

    def as_dict(self) -> dict[str, Any]:
        """The priced answer as JSON members, or `{"error": …}` in its place."""
        if isinstance(self.result, BadInput):
            return {"error": {**self.result.as_dict(), "line": self.line}}
        return self.result.as_dict()


@dataclass(frozen=True, slots=True)
class FileResults:
    """The results of a file in its order; `is_single` when it held one answer and not lines of them."""

    is_single: bool
    results: Iterator[FileResult]


def price_file(pricer: AnswerPricer, blocks: Iterator[bytes], terms: Terms, *, is_stream: bool = False) -> FileResults:
    """Price a file of answers, line by line as it is read; memory does not grow with the file.

    Args:
        pricer: prices each answer.
        blocks: the file's bytes, in blocks cut anywhere.
        terms: what the caller says about every answer in it.
        is_stream: the file is one recorded event stream (or lines of envelopes that hold one each).

    Raises:
        BadInput: nothing in the file can be read (`empty_input`, `event_stream`, `body_too_large`).
    """
    if is_stream:
        in_envelopes, blocks = hold_recorded_streams(blocks)
        if not in_envelopes:
            return FileResults(True, iter([FileResult(1, _or_error(lambda: pricer.price_stream(blocks, terms)))]))
    answers = find_answers(blocks)
    return FileResults(answers.is_single, (_price_line(pricer, line, terms) for line in answers.lines))


def _price_line(pricer: AnswerPricer, line: Line, terms: Terms) -> FileResult:
    text = line.text
    if text is None:
        return FileResult(line.number, too_large())
    return FileResult(line.number, _or_error(lambda: pricer.price_text(text, terms)))


def _or_error(price: Callable[[], PricedAnswer]) -> PricedAnswer | BadInput:
    try:
        return price()
    except BadInput as error:
        return error


def _model(terms: Terms) -> str | None:
    named = terms.model or terms.request.get("model")
    return named if isinstance(named, str) else None


def _in_order(meters: Mapping[str, int]) -> dict[str, int]:
    return {name: meters[name] for name in sorted(meters, key=meter_order)}


def _line_dict(line: CostLine) -> dict[str, Any]:
    return {
        "meter": line.meter,
        "quantity": line.quantity,
        "rate_usd": None if line.price_pico is None else pico_to_usd(line.price_pico),
        "per": line.per,
        "amount_usd": None if line.amount_pico is None else pico_to_usd(line.amount_pico),
        **({} if line.model is None else {"model": line.model}),
    }
