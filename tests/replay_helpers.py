"""Events, cards and damage for tests of the replay of blocks, and what pricing entry by entry says of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
from hypothesis import strategies as st

from tallystick.archive.columns import ENTRY_SCHEMA
from tallystick.archive.format import write_block
from tallystick.archive.replay import BlockReplay, Wanted
from tallystick.core.money import PICO_MAX
from tallystick.invoice.facts import StoredFact, name_of, recheck
from tallystick.ledger.entry import Entry
from tallystick.rates.card import CardHistory
from tallystick.rates.cardfile import CardVersion, Header, ModelLine, ProviderLine, RateLine
from tallystick.rates.model import Cost
from tallystick.usage.event import UsageEvent
from tallystick.usage.meters import QUANTITY_MAX

START = datetime(2026, 1, 1, tzinfo=UTC)
PRICED = ("tokens_in", "cache_read_tokens", "tokens_out", "requests", "audio_in_ms")
COUNTED = (*PRICED, "tool_calls", "reasoning_tokens", "declared_by_contract")
MODELS = ("m0", "m1", "unheard-of")
CONTEXTS: tuple[dict[str, str], ...] = ({}, {"service_tier": "batch"}, {"speed": "fast", "service_tier": "batch"})
INSTANTS = st.builds(
    lambda day, minute, rest: START + timedelta(days=day, minutes=minute, microseconds=rest),
    st.integers(0, 9),
    st.sampled_from([0, 29, 30, 989, 990, 1439]),
    st.integers(0, 59_999_999),
)
DAYS = st.sampled_from([None] * 5 + [START + timedelta(days=day) for day in (2, 5)])
PRICES = st.sampled_from([0, 1, 7, 10**6, 3 * 10**11, 10**12])


@st.composite
def rate_lines(draw: st.DrawFn) -> RateLine:
    window = draw(st.sampled_from([None, None, None, "16:30-00:30"]))
    return RateLine(
        provider="p",
        model=draw(st.sampled_from(MODELS[:2])),
        meter=draw(st.sampled_from(PRICED)),
        per=draw(st.sampled_from([1, 3, 1_000_000])),
        price_pico=draw(PRICES),
        context=draw(st.sampled_from([{}, {}, {}, CONTEXTS[1]])),
        tiers=tuple(sorted(draw(st.dictionaries(st.sampled_from([0, 5, 200_000]), PRICES, max_size=2)).items())),
        window=window,
        quantity_min=0 if window else draw(st.sampled_from([0, 0, 10])),
        valid_from=draw(DAYS),
        valid_to=draw(DAYS),
    )


@st.composite
def histories(draw: st.DrawFn) -> CardHistory:
    versions: list[CardVersion] = []
    models = tuple(ModelLine("p", model, {"equals": model}) for model in MODELS[:2])
    for number in range(draw(st.integers(1, 2))):
        header = Header(1, f"v{number}", START, "test", None, versions[-1].sha256 if versions else None)
        base = [
            RateLine(provider="p", model=model, meter=meter, per=per, price_pico=7 * 10**9, quantity_min=least)
            for model in MODELS[: draw(st.integers(0, 2))]
            for meter, per, least in (("tokens_in", 3, 0), ("tokens_out", 4, 0), ("audio_in_ms", 8, 10))
        ]
        rates = (*base, *draw(st.lists(rate_lines(), max_size=6)))
        versions.append(CardVersion(header, f"{number:064d}", (ProviderLine("p"),), models, (), (), rates))
    return CardHistory(versions)


@st.composite
def events(draw: st.DrawFn) -> UsageEvent:
    quantities = st.one_of(st.integers(0, 20), st.integers(0, 400_000), st.integers(0, QUANTITY_MAX))
    return UsageEvent(
        org_id="a",
        request_id="r",
        time=draw(INSTANTS),
        user_id="u",
        session_id="s",
        feature="f",
        environment=draw(st.sampled_from(["production", "test"])),
        model=draw(st.sampled_from([*MODELS, *MODELS[:1] * 5])),
        provider=draw(st.sampled_from(["p"] * 8 + [None, "q"])),
        meters=draw(st.dictionaries(st.sampled_from([*COUNTED, *COUNTED[:3] * 2]), quantities, max_size=4)),
        outcome=draw(st.sampled_from(["success", "failure"])),
        usage_status=draw(st.sampled_from(["final", "partial"])),
        price_context=draw(st.sampled_from([*CONTEXTS, *CONTEXTS[:1] * 5])),
        provider_cost_pico=draw(st.sampled_from([None] * 5 + [0, 10**9])),
        payer=draw(st.sampled_from(["seller", "seller", "customer"])),
    )


def rows_of(history: CardHistory, drawn: list[UsageEvent], corrected: list[bool]) -> list[dict[str, object]]:
    """Entries as a writer makes them: each priced by one of the cards, some corrected under the newest."""
    rows: list[dict[str, object]] = []
    for number, event in enumerate(drawn):
        card = history.at(history.versions[number % len(history.versions)].name)
        cost = card.price_event(event)
        if not _fits(cost):
            continue
        fact = {name: getattr(event, name) for name in ENTRY_SCHEMA.names if hasattr(event, name)}
        fact |= {"price_context": msgspec.json.encode(event.price_context).decode(), "attributes": "{}"}
        fact |= {"payer": _payer(event)}
        meters = dict(sorted(event.meters.items()))
        fact |= {"meter_names": list(meters), "meter_quantities": list(meters.values()), "fingerprint": bytes(32)}
        rows.append(_entry(rows, event, cost, "usage") | fact | {"request_id": f"r{len(rows)}"})
    for row, is_corrected, event in zip(list(rows), corrected, drawn, strict=False):
        if is_corrected and row["status"] == "unpriced":
            again = history.latest.price_event(_event_of(row, event))
            same = {"request_id": row["request_id"], "time": row["time"], "refers_to_seq": row["seq"]}
            same |= {"payer": row["payer"]}
            if _fits(again):
                rows.append(_entry(rows, event, again, "correction") | same)
    return rows


def _payer(event: UsageEvent) -> str | None:
    """As the column has it: null where the seller's key paid."""
    return "customer" if event.payer == "customer" else None


def _fits(cost: Cost) -> bool:
    """Whether an entry can hold the cost; the writer refuses what does not."""
    amounts = [cost.total_pico, *(line.amount_pico for line in cost.lines)]
    return all(abs(amount or 0) <= PICO_MAX for amount in amounts)


def _event_of(row: dict[str, object], like: UsageEvent) -> UsageEvent:
    meters = dict(zip(row["meter_names"], row["meter_quantities"], strict=True))  # type: ignore[call-overload]
    changed = {name: row[name] for name in ("time", "model", "provider", "usage_status", "provider_cost_pico")}
    context = msgspec.json.decode(str(row["price_context"]))
    return msgspec.structs.replace(like, meters=meters, price_context=context, **changed)


def _entry(rows: list[dict[str, object]], event: UsageEvent, cost: Cost, kind: str) -> dict[str, object]:
    lines = cost.lines
    return dict.fromkeys(ENTRY_SCHEMA.names) | {
        "org_id": "a",
        "seq": len(rows) + 1,
        "kind": kind,
        "time": event.time,
        "time_max": START + timedelta(days=99),
        "recorded_at": START + timedelta(days=99),
        "rate_version": cost.rate_version,
        "status": cost.status,
        "cost_pico": cost.total_pico,
        "line_meters": [line.meter for line in lines],
        "line_quantities": [line.quantity for line in lines],
        "line_price_pico": [line.price_pico for line in lines],
        "line_per": [line.per for line in lines],
        "line_amount_pico": [line.amount_pico for line in lines],
        "reason": cost.reason,
        "leaf": bytes(32),
    }


def _bump(row: dict[str, object], name: str, dice: random.Random) -> None:
    values = list(row[name] or [])  # type: ignore[call-overload]
    if values:
        place = dice.randrange(len(values))
        values[place] = (values[place] or 0) + dice.choice([-1, 1])
        row[name] = values


def _shift(row: dict[str, object], dice: random.Random) -> None:
    """Move an amount from one line to another: the total stays."""
    amounts = list(row["line_amount_pico"])  # type: ignore[call-overload]
    known = [place for place, amount in enumerate(amounts) if amount is not None]
    if len(known) > 1:
        one, other = dice.sample(known, 2)
        amounts[one], amounts[other] = amounts[one] - 1, amounts[other] + 1
        row["line_amount_pico"] = amounts


DAMAGE: tuple[Callable[[dict[str, object], random.Random], None], ...] = (
    *(
        lambda row, dice, name=name: _bump(row, name, dice)
        for name in ("line_amount_pico", "line_quantities", "line_price_pico", "line_per", "meter_quantities")
    ),
    _shift,
    lambda row, _: row.update(cost_pico=(row["cost_pico"] or 0) + 1),  # type: ignore[operator]
    lambda row, _: row.update(cost_pico=None),
    lambda row, dice: row.update(status=dice.choice(["final", "partial", "unpriced"])),
    lambda row, dice: row.update(rate_version=dice.choice(["v0", "v1", "gone"])),
    lambda row, dice: row.update(time=START + timedelta(minutes=dice.randrange(14_400))),
    lambda row, dice: row.update(model=dice.choice(MODELS)),
    lambda row, _: row.update(reason="none"),
    lambda row, _: row.update(provider_cost_pico=5),
    lambda row, _: row.update(price_context='{"service_tier": "batch"}'),
    lambda row, _: row.update(line_models=["m1"] * len(row["line_meters"])),  # type: ignore[arg-type]
    lambda row, _: row.update(line_meters=list(reversed(row["line_meters"]))),  # type: ignore[call-overload]
    lambda row, _: row.update(meter_names=[], meter_quantities=[]),
    lambda row, _: row.update(meter_quantities=[9 * one + 1 for one in row["meter_quantities"] or []]),  # type: ignore[attr-defined]
)


def one_by_one(rows: list[dict[str, object]], history: CardHistory) -> set[tuple[int, str]]:
    """What the scalar check says of each entry: (sequence, field)."""
    entries = {row["seq"]: Entry(**{**row, "price_context": _context(row), "attributes": {}}) for row in rows}  # type: ignore[arg-type]
    found = set()
    for seq, entry in entries.items():
        fact = StoredFact(entry, None)
        if entry.kind == "correction":
            fact = StoredFact(entries[entry.refers_to_seq], entry)
        for one in recheck(fact, history.at).differences:
            if one.where == name_of(entry) and one.field != "leaf":
                found.add((seq, one.field))
    return found  # type: ignore[return-value]


def _context(row: dict[str, object]) -> dict[str, str] | None:
    text = row["price_context"]
    return None if text is None else msgspec.json.decode(str(text))


def replayed(folder: Path, rows: list[dict[str, object]], history: CardHistory) -> tuple[set[tuple[int, str]], int]:
    table = pa.Table.from_pylist(rows, schema=ENTRY_SCHEMA)
    half = len(rows) // 2
    files = []
    for number, part in enumerate((table.slice(0, half), table.slice(half))):
        if part.num_rows:
            files.append(folder / f"{number}.parquet")
            write_block(part, files[-1], folder / f"{number}.people.parquet", block=number + 1)
    wanted = Wanted(START - timedelta(days=1), START + timedelta(days=100))
    with BlockReplay(history.at, history.minimum_meters(), threads=2, memory_mb=500, temporary=folder) as replay:
        found = list(replay.run(files, wanted))
    differences = {(one.seq, one.field) for part in found for one in part.differences}
    return differences, sum(part.entries for part in found)


DRAWN = st.lists(events(), min_size=1, max_size=12)
