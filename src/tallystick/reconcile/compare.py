"""Laying an export beside the ledger: by day and model, what each of the two says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from typing import Final, NamedTuple

from tallystick.rates.names import Names
from tallystick.reconcile.ledger_days import Group, LedgerDays, Sums
from tallystick.reconcile.model import Export, ExportRow

ALL: Final = "*"
"""In the place of a model: the whole day, where an export does not tell models apart."""


class Key(NamedTuple):
    """What is compared with each other. `org_id` is "" unless projects are mapped to orgs."""

    org_id: str
    day: date
    model: str


class Gap(NamedTuple):
    """A quantity on both sides."""

    name: str
    theirs: int
    ours: int

    @property
    def gap(self) -> int:
        """How much more the provider has."""
        return self.theirs - self.ours


class CostGap(NamedTuple):
    """A cost on both sides, in pico-USD; `slack_pico` is what the export's own rounding may come to."""

    theirs_pico: Fraction
    ours_pico: int
    slack_pico: Fraction

    @property
    def gap_pico(self) -> Fraction:
        """How much more the provider has."""
        return self.theirs_pico - self.ours_pico

    @property
    def is_rounding(self) -> bool:
        """Whether it is no more than the export's digits can show."""
        return abs(self.gap_pico) <= self.slack_pico


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be compared, and how exactly.

    Attributes:
        payers: whose calls; those paid with customers' own keys are on other accounts of the provider.
        orgs: only these of the ledger; all when empty.
        org_of: by project or API key of the export, the org that it is of; rows of no such are left out. Empty: orgs
            are not told apart.
        since, until: only days from `since` up to, and not including, `until`.
        tolerance: the share of the provider's figure that a difference may have and still be none.
        tolerance_pico: likewise of a cost, in pico-USD.
        is_complete: whether every call on the account passed here, which an export that counts none cannot tell.
    """

    payers: frozenset[str] = frozenset({"seller"})
    orgs: frozenset[str] = frozenset()
    org_of: Mapping[str, str] = field(default_factory=dict)
    since: date | None = None
    until: date | None = None
    tolerance: Fraction = Fraction(0)
    tolerance_pico: int = 0
    is_complete: bool = False

    def is_inside(self, day: date) -> bool:
        """Whether the day is asked about."""
        return (self.since is None or day >= self.since) and (self.until is None or day < self.until)


@dataclass(slots=True)
class Theirs:
    """What an export's rows of one key come to."""

    rows: int = 0
    requests: int | None = None
    quantities: Counter[str] = field(default_factory=Counter)
    cost_pico: Fraction | None = None
    slack_pico: Fraction = Fraction(0)
    cost_of: dict[str, Fraction] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    tiers: Counter[str] = field(default_factory=Counter)

    def add(self, row: ExportRow) -> None:
        """One more row."""
        self.rows += 1
        if row.model is not None:
            self.names.add(row.model)
        if row.requests is not None:
            self.requests = (self.requests or 0) + row.requests
        for name, amount in row.quantities.items():
            self.quantities[name] += amount
        if row.quantities:
            self.tiers[row.tier or ""] += row.requests if row.requests is not None else sum(row.quantities.values())
        if row.cost_pico is not None:
            self.cost_pico = (self.cost_pico or Fraction(0)) + row.cost_pico
            self.slack_pico += max(row.step_pico / 2, Fraction(1))
            of = row.cost_of or ""
            self.cost_of[of] = self.cost_of.get(of, Fraction(0)) + row.cost_pico


@dataclass(slots=True)
class Cell:
    """One day and model.

    Attributes:
        requests: those that failed without any usage left out; None where the export counts none.
        meters: of each class that the export states.
        cost: None where the export states none.
        ours: what the ledger has, all of it.
        groups: the same by group.
        theirs: what the export has.
        our_names: the model as the ledger's entries name it.
        missing: how much of the day the export is not of.
        customers: requests of it that were paid with customers' own keys, and are not compared.
        is_known: whether a rate card knows the model.
        is_equal: whether nothing differs by more than is tolerated.
    """

    key: Key
    requests: Gap | None
    meters: tuple[Gap, ...]
    cost: CostGap | None
    ours: Sums
    groups: dict[Group, Sums]
    theirs: Theirs
    our_names: set[str]
    missing: timedelta
    customers: int
    is_known: bool
    is_equal: bool = False


@dataclass(slots=True)
class Comparison:
    """All of it.

    Attributes:
        days: those that were compared.
        cells: by key, in order.
        unattributed: costs that are of no model, by item, in pico-USD.
        notes: what else there is to say, a sentence each.
    """

    days: list[date]
    cells: dict[Key, Cell]
    unattributed: dict[str, Fraction]
    notes: list[str]

    @property
    def differing(self) -> list[Cell]:
        """The cells in which something differs."""
        return [cell for cell in self.cells.values() if not cell.is_equal]


class Model(NamedTuple):
    """A model as both sides call it, and whether a card knows it."""

    name: str
    is_known: bool


class Naming:
    """What names mean, as a rate card knows it: so dated snapshots and aliases of one model meet."""

    def __init__(self, names: Names, provider: str) -> None:
        self._names = names
        line = names.provider(provider)
        self.provider = provider.strip().lower() if line is None else line.provider
        self._known = line is not None

    def model(self, name: str) -> Model:
        """A model of the provider's."""
        found = self._names.resolve(self.provider, name) if self._known else None
        return Model(name.strip().lower(), False) if found is None else Model(found.model, True)

    def is_of(self, provider: str | None, model: str) -> bool:
        """Whether a request of the ledger's is of the provider."""
        if provider is not None:
            line = self._names.provider(provider)
            return (provider.strip().lower() if line is None else line.provider) == self.provider
        found = self._names.resolve(None, model)
        return found is not None and found.provider == self.provider


def compare(export: Export, ledger: LedgerDays, naming: Naming, asked: Asked) -> Comparison:
    """Lay the two beside each other. Days that the export is not of are not compared."""
    days = [day for day in export.days() if asked.is_inside(day)]
    notes = list(dict.fromkeys(export.notes))
    theirs, unattributed = _theirs(export, naming, asked, notes)
    ours, customers = _ours(ledger, naming, asked, frozenset(days))
    has_totals = {key[:2] for key in theirs if key.model == ALL}
    for key in list(ours):
        if key[:2] in has_totals:
            for group, sums in ours[key].items():
                ours.setdefault(key._replace(model=ALL), {})[group] = sums
    stated = {name for of in theirs.values() if of.names for name in of.quantities} or export.stated
    counts = any(row.requests is not None for row in export.rows)
    costs = any(of.cost_pico is not None for key, of in theirs.items() if key.model != ALL)
    cells: dict[Key, Cell] = {}
    for key in sorted(theirs.keys() | ours.keys()):
        groups = ours.get(key, {})
        of = theirs.get(key)
        if of is None:
            if key[:2] in has_totals and not (stated and any(one.names for one in theirs.values())):
                continue  # the export has the whole day, and no models
            of = Theirs(requests=0 if counts else None, cost_pico=Fraction(0) if costs else None)
        elif key.model != ALL:
            of.requests = 0 if of.requests is None and counts and stated else of.requests
            of.cost_pico = Fraction(0) if of.cost_pico is None and costs else of.cost_pico
        classes = stated if key.model != ALL else set(of.quantities)
        total = Sums()
        for sums in groups.values():
            total.add(sums)
        cell = _cell(key, of, total, groups, export, classes, naming)
        if cell is None:
            continue
        cell.customers = customers.get(key, 0)
        cell.is_equal = _is_equal(cell, asked)
        cells[key] = cell
    return Comparison(days, cells, unattributed, notes)


def _theirs(
    export: Export, naming: Naming, asked: Asked, notes: list[str]
) -> tuple[dict[Key, Theirs], dict[str, Fraction]]:
    found: dict[Key, Theirs] = {}
    unattributed: dict[str, Fraction] = {}
    unmapped: Counter[str] = Counter()
    for row in export.rows:
        if not asked.is_inside(row.day):
            continue
        org_id = ""
        if asked.org_of:
            mapped = asked.org_of.get(row.project or "") or asked.org_of.get(row.api_key or "")
            if mapped is None:
                unmapped[row.project or row.api_key or "(none)"] += 1
                continue
            org_id = mapped
        if row.model is None and row.item is not None:
            unattributed[row.item] = unattributed.get(row.item, Fraction(0)) + (row.cost_pico or 0)
            continue
        model = ALL if row.model is None else naming.model(row.model).name
        found.setdefault(Key(org_id, row.day, model), Theirs()).add(row)
    for project, rows in sorted(unmapped.items()):
        notes.append(f"{rows} rows are of {project}, which is mapped to no org; they are left out")
    return found, unattributed


def _ours(
    ledger: LedgerDays, naming: Naming, asked: Asked, days: frozenset[date]
) -> tuple[dict[Key, dict[Group, Sums]], Counter[Key]]:
    found: dict[Key, dict[Group, Sums]] = {}
    customers: Counter[Key] = Counter()
    mapped = frozenset(asked.org_of.values())
    for group, sums in ledger.groups.items():
        wanted = group.org_id in mapped if mapped else not asked.orgs or group.org_id in asked.orgs
        if group.day not in days or not wanted or not naming.is_of(group.provider, group.model):
            continue
        key = Key(group.org_id if mapped else "", group.day, naming.model(group.model).name)
        if group.payer in asked.payers:
            found.setdefault(key, {})[group] = sums
        else:
            customers[key] += sums.requests
    return found, customers


def _cell(
    key: Key,
    theirs: Theirs,
    ours: Sums,
    groups: dict[Group, Sums],
    export: Export,
    classes: set[str],
    naming: Naming,
) -> Cell | None:
    """None where the ledger has something that the export is not about."""
    gaps = []
    for name in export.classes:
        if name in classes:
            mine = sum(ours.quantities[meter] for meter in export.classes[name])
            if mine or theirs.quantities[name]:
                gaps.append(Gap(name, theirs.quantities[name], mine))
    if not theirs.rows and not gaps and theirs.cost_pico is None:
        return None
    requests = None
    if theirs.requests is not None and (theirs.rows or gaps):
        requests = Gap("requests", theirs.requests, ours.requests - ours.silent_failures)
    cost = None if theirs.cost_pico is None else CostGap(theirs.cost_pico, ours.cost_pico, theirs.slack_pico)
    names = {group.model for group in groups}
    known = key.model == ALL or all(naming.model(name).is_known for name in names | theirs.names)
    return Cell(key, requests, tuple(gaps), cost, ours, groups, theirs, names, export.missing_of(key.day), 0, known)


def _is_equal(cell: Cell, asked: Asked) -> bool:
    gaps = [*cell.meters, *([] if cell.requests is None else [cell.requests])]
    if any(abs(gap.gap) > asked.tolerance * gap.theirs for gap in gaps):
        return False
    cost = cell.cost
    if cost is None:
        return True
    if cell.ours.unpriced and cost.theirs_pico:
        return False
    allowed = max(cost.slack_pico, asked.tolerance * abs(cost.theirs_pico), Fraction(asked.tolerance_pico))
    return abs(cost.gap_pico) <= allowed
