"""Folds a new release of the price source into what was known: the rule of history.

A source that overwrites its prices in place says what costs what *now*. So:

1. From the moment it became known, the release is right about everything it lists.
2. About the past it is right where it gives dates: from an explicit start date on, and before an explicit
   start date that lies in the past. A date at which a price does not change is no statement about it.
3. An undated price that contradicts what was known to be in force takes effect when it became known, not
   before. A price never stated before contradicts nothing: it holds since always.
4. What the source no longer lists keeps its rows; a price it drops from a model it still lists ends.
5. A new model id takes over the history of the id that its name meant before, when that id disappears in
   the same release and its name goes on in the new one: a rename. Otherwise the new model is a split-off:
   its own price holds since always.

Only rows that the release changes are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tallystick.rates.cardfile import CardVersion, Line, ModelLine, ProviderLine, RateLine, RetiredLine
from tallystick.rates.names import matches, strength
from tallystick.rates.source import Key, Release
from tallystick.rates.timeline import BEGIN, END, NEVER, Flat, Price, Timeline, at, combine, knots, segments


@dataclass
class Known:
    """Everything the card says up to some version, keyed for folding; `fold` returns the next one."""

    providers: dict[str, ProviderLine] = field(default_factory=dict)
    models: dict[tuple[str, str], ModelLine] = field(default_factory=dict)
    retired: set[tuple[str, str]] = field(default_factory=set)
    prices: dict[Key, Timeline] = field(default_factory=dict)
    prices_by_hand: set[Key] = field(default_factory=set)
    models_by_hand: set[tuple[str, str]] = field(default_factory=set)
    """What files written by hand state: the source is not asked about it and cannot end it."""


def known_from(versions: Iterable[CardVersion], *, source: str) -> Known:
    """What a chain of card files says; rows of other sources than `source` count as written by hand."""
    known = Known()
    for version in versions:
        known.providers.update((line.provider, line) for line in version.providers)
        known.models.update(((line.provider, line.model), line) for line in version.models)
        known.retired -= {(line.provider, line.model) for line in version.models}
        known.retired |= {(line.provider, line.model) for line in version.retired}
        changed = dict(_apply(known.prices, version.rates))
        known.prices.update(changed)
        if version.header.source != source:
            known.prices_by_hand |= changed.keys()
            known.models_by_hand |= {(line.provider, line.model) for line in version.models}
    return known


def fold(known: Known, release: Release, known_at: datetime) -> tuple[Known, list[Line]]:
    """What is known after `release`, and the rows that its card file holds; `known` is not changed."""
    after = Known(
        {**known.providers, **release.providers},
        {**known.models, **release.models},
        set(),
        dict(known.prices),
        known.prices_by_hand,
        known.models_by_hand,
    )
    lines: list[Line] = []
    lines += [line for name, line in release.providers.items() if known.providers.get(name) != line]
    back = known.retired & release.models.keys()
    lines += [line for key, line in release.models.items() if known.models.get(key) != line or key in back]
    gone = known.models.keys() - known.retired - release.models.keys() - known.models_by_hand
    lines += [RetiredLine(*key) for key in gone]
    after.retired = (known.retired | gone) - release.models.keys()

    before = _with_renames(known, release, gone)
    listed = {key for key in before if key[:2] in release.models and key not in known.prices_by_hand}
    for key in listed | release.prices.keys():
        timeline = fold_timeline(before.get(key, NEVER), release.prices.get(key, NEVER), known_at)
        after.prices[key] = timeline
        lines += _rows(key, known.prices.get(key, NEVER), timeline)
    return after, lines


def fold_timeline(known: Timeline, stated: Timeline, known_at: datetime) -> Timeline:
    """One price through time after a release that states `stated` became known at `known_at`.

    `stated` begins undated; each further step is an explicit start date.
    """
    spans = list(segments(stated))

    def price_at(instant: datetime) -> Price | None:
        since, until, price = next(span for span in spans if span[0] <= instant < span[1])
        if instant >= known_at:
            return price
        dated = since > BEGIN or until <= known_at
        had = at(known, instant)
        return price if dated or had is None else had

    return combine(knots(known, stated) | {known_at}, price_at)


def _with_renames(known: Known, release: Release, gone: set[tuple[str, str]]) -> Mapping[Key, Timeline]:
    """The known timelines, with the history of each renamed model under its new id as well."""
    heirs = {
        new: old for new, old in _meant_before(known, release) if old in gone and _inherits(known, release, new, old)
    }
    if not heirs:
        return known.prices
    of_model: dict[tuple[str, str], list[Key]] = {}
    for price_key in known.prices:
        of_model.setdefault(price_key[:2], []).append(price_key)
    inherited = {
        (*new, meter, context): known.prices[provider, model, meter, context]
        for new, old in heirs.items()
        for provider, model, meter, context in of_model.get(old, ())
    }
    return {**known.prices, **inherited}


def _meant_before(known: Known, release: Release) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Each new model with the one that its id meant until now, by the source's own generous reading."""
    listed: dict[str, list[ModelLine]] = {}
    for key, line in known.models.items():
        if key not in known.retired:
            listed.setdefault(key[0], []).append(line)
    for key in release.models.keys() - known.models.keys():
        name = key[1].lower()
        # The source takes the first; the closest clause is what it means where several match.
        old = max(
            (line for line in listed.get(key[0], ()) if matches(line.match, name)),
            key=lambda line: (strength(line.match, name), line.model),
            default=None,
        )
        if old is not None:
            yield key, (old.provider, old.model)


def _inherits(known: Known, release: Release, new: tuple[str, str], old: tuple[str, str]) -> bool:
    """Whether a new id goes on as the old one: it takes the old id as its name, or only their spelling differs.

    Where an id is replaced by several, the one that takes its name goes on; the others are new models, which
    the source had only not told apart.
    """
    if matches(release.models[new].match, old[1].lower()):
        return True
    taken = any(key[0] == old[0] and matches(line.match, old[1].lower()) for key, line in release.models.items())
    return not taken and strength(known.models[old].match, new[1].lower()) > 0


def _apply(prices: Mapping[Key, Timeline], rates: Iterable[RateLine]) -> Iterator[tuple[Key, Timeline]]:
    """The timelines that one file's rows change, as they are after it."""
    by_key: dict[Key, list[RateLine]] = {}
    for line in rates:
        key = (line.provider, line.model, line.meter, tuple(sorted(line.context.items())))
        by_key.setdefault(key, []).append(line)
    for key, lines in by_key.items():
        yield key, overlay(prices.get(key, NEVER), lines)


def overlay(timeline: Timeline, lines: list[RateLine]) -> Timeline:
    """A timeline with the rows of one later file laid over it."""
    spans = [(line.valid_from or BEGIN, line.valid_to or END, line) for line in lines]

    def price_at(instant: datetime) -> Price | None:
        here = [line for since, until, line in spans if since <= instant < until]
        return _price(here) if here else at(timeline, instant)

    edges = {edge for since, until, _ in spans for edge in (since, until) if edge < END}
    return combine(knots(timeline) | edges, price_at)


def _price(lines: list[RateLine]) -> Price | None:
    day = next((line for line in lines if line.window is None), None)
    windows = tuple(
        sorted(
            (line.window, Flat(line.price_pico, line.tiers))
            for line in lines
            if line.window is not None and line.price_pico is not None
        )
    )
    flat = None if day is None or day.price_pico is None else Flat(day.price_pico, day.tiers)
    if flat is None and not windows:
        return None
    return Price(lines[0].per, flat, windows, lines[0].quantity_min)


def _rows(key: Key, before: Timeline, after: Timeline) -> Iterator[RateLine]:
    """The rows that turn `before` into `after`: one for each span that differs, and each time of day in it."""
    edges = sorted(knots(before, after))
    spans: list[tuple[datetime, datetime, Price | None]] = []
    for since, until in zip(edges, [*edges[1:], END], strict=True):
        price = at(after, since)
        if at(before, since) == price:
            continue
        if spans and spans[-1][1:] == (since, price):
            spans[-1] = (spans[-1][0], until, price)
        else:
            spans.append((since, until, price))
    for since, until, price in spans:
        yield from _span_rows(key, since, until, price, at(before, since))


def _span_rows(
    key: Key, since: datetime, until: datetime, price: Price | None, before: Price | None
) -> Iterator[RateLine]:
    provider, model, meter, context = key
    valid_from = None if since == BEGIN else since
    valid_to = None if until == END else until

    def row(flat: Flat | None, window: str | None, per: int, quantity_min: int) -> RateLine:
        return RateLine(
            provider=provider,
            model=model,
            meter=meter,
            per=per,
            price_pico=None if flat is None else flat.price_pico,
            context=dict(context),
            tiers=() if flat is None else flat.tiers,
            window=window,
            quantity_min=quantity_min,
            valid_from=valid_from,
            valid_to=valid_to,
        )

    if price is None:
        yield row(None, None, before.per if before else 1, 0)
        return
    yield row(price.day, None, price.per, price.quantity_min)
    for window, flat in price.windows:
        yield row(flat, window, price.per, price.quantity_min)
