"""The rate card through time: a chain of versions in the order in which they became known."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from tallystick.core.errors import BadInput, NotFound
from tallystick.rates.cardfile import CardVersion
from tallystick.rates.names import Names, Resolved
from tallystick.rates.plan import VersionedLine
from tallystick.rates.pricing import RateCard
from tallystick.usage.meters import METERS

__all__ = ["CardHistory", "RateCard"]

_CARDS_KEPT = 16


class CardHistory:
    """All versions of the rate card that are known here.

    Args:
        versions: card files, read, oldest first.

    Raises:
        BadInput: `no_rate_cards`, `broken_card_chain` or `duplicate_rate_version`.
    """

    def __init__(self, versions: Iterable[CardVersion]) -> None:
        self.versions: tuple[CardVersion, ...] = tuple(versions)
        _check_chain(self.versions)
        self._ordinals = {version.name: index for index, version in enumerate(self.versions)}
        self._lines: dict[tuple[str, str], list[VersionedLine]] | None = None
        self._card = lru_cache(maxsize=_CARDS_KEPT)(self._make_card)

    @property
    def latest(self) -> RateCard:
        """The rates as they are known now."""
        return self._card(len(self.versions) - 1)

    def at(self, version: str) -> RateCard:
        """The rates as they were known at that version.

        Raises:
            NotFound: `unknown_rate_version`.
        """
        ordinal = self._ordinals.get(version)
        if ordinal is None:
            raise NotFound(
                "unknown_rate_version",
                f"there is no rate card version {version!r}",
                next_step="`tally rates list` shows the versions there are",
            )
        return self._card(ordinal)

    def ordinal(self, version: str) -> int:
        """The place of a version in the chain, from 0; raises as `at` does."""
        return self.at(version)._ordinal

    def lines(self, resolved: Resolved) -> list[VersionedLine]:
        """The rows of a model in all versions, oldest first."""
        if self._lines is None:
            found: dict[tuple[str, str], list[VersionedLine]] = {}
            for ordinal, version in enumerate(self.versions):
                for line in version.rates:
                    found.setdefault((line.provider, line.model), []).append((ordinal, line))
            self._lines = found  # only now: another thread that asks in between must not see a part
        return self._lines.get(resolved, [])

    def minimum_meters(self) -> frozenset[str]:
        """The meters for which some version bills at least so many units, those that fall back to them included."""
        found = {line.meter for version in self.versions for line in version.rates if line.quantity_min}
        borrowed = {meter.name for meter in METERS.values() if found.intersection(meter.falls_back_to)}
        return frozenset(found | borrowed)

    def listed(self, ordinal: int) -> dict[tuple[str, str], bool]:
        """Every (provider, model) known at a version, and whether its source still lists it."""
        listed: dict[tuple[str, str], bool] = {}
        for version in self.versions[: ordinal + 1]:
            listed.update(((line.provider, line.model), True) for line in version.models)
            listed.update(((line.provider, line.model), False) for line in version.retired)
        return listed

    def names(self, ordinal: int) -> Names:
        """What names mean at a version."""
        seen = self.versions[: ordinal + 1]
        listed = self.listed(ordinal)
        providers = {line.provider: line for version in seen for line in version.providers}
        models = {(line.provider, line.model): line for version in seen for line in version.models}
        aliases = [line for version in seen for line in version.aliases]
        return Names(
            providers,
            [line for key, line in models.items() if listed[key]],
            [line for key, line in models.items() if not listed[key]],
            aliases,
        )

    def _make_card(self, ordinal: int) -> RateCard:
        return RateCard(self, ordinal)


def _check_chain(versions: tuple[CardVersion, ...]) -> None:
    if not versions:
        raise BadInput("no_rate_cards", "there is no rate card", next_step="install Tallystick again")
    seen: set[str] = set()
    previous: CardVersion | None = None
    for version in versions:
        if version.header.previous != (previous.sha256 if previous else None):
            after = f"after {previous.name}" if previous else "at the beginning"
            raise BadInput(
                "broken_card_chain",
                f"{version.name} does not belong {after}: a file of the chain is missing, doubled or was changed",
                next_step="restore the card files as they were published",
                where=version.name,
            )
        if previous is not None and version.header.known_at < previous.header.known_at:
            raise BadInput(
                "broken_card_chain",
                f"{version.name} was known before {previous.name}, which it follows",
                next_step="restore the card files as they were published",
                where=version.name,
            )
        if version.name in seen:
            raise BadInput(
                "duplicate_rate_version",
                f"two card files are called {version.name}",
                next_step="remove the one that was added last",
                where=version.name,
            )
        seen.add(version.name)
        previous = version
