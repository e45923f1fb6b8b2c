"""Reading the members of a request one by one, so that every fault in it is told in one pass."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from tallystick.core.errors import BadInput, Problems
from tallystick.core.instants import parse_instant
from tallystick.core.money import PICO_MAX, parse_decimal
from tallystick.ledger.operations import CREDITS_PICO_MAX
from tallystick.usage.event_problems import check_text

PICO = 10**12
"""Pico-credits in a credit, and pico-USD in a USD."""
FAULTS_MAX = 100
"""After so many faults a request is looked at no further: hints at what was meant take a while each."""
_MISSING = object()


class Members:
    """The members of one JSON object; what a reader of one returns means nothing once there is a fault.

    Args:
        raw: the decoded JSON value.
        known: the members that there are.
        what: what it is, for the errors, such as "a grant".
    """

    def __init__(self, raw: object, known: Collection[str], what: str) -> None:
        self._what = what
        self.faults: list[BadInput] = []
        self._raw: Mapping[str, Any] = {}
        if not isinstance(raw, Mapping):
            self.fault("not_an_object", None, f"{what} is a JSON object", "send one object")
            return
        self._raw = raw
        for name in raw:
            if self.is_hopeless:
                return
            if name not in known:
                self.fault(
                    "unknown_field", short(name), "there is no such member" + did_you_mean(name, known), "leave it out"
                )

    def fault(self, code: str, where: str | None, detail: str, next_step: str) -> None:
        """Note what is wrong."""
        self.faults.append(BadInput(code, detail, next_step=next_step, where=where))

    def has(self, name: str) -> bool:
        """Whether the member is there, and not null."""
        return self._raw.get(name) is not None

    @property
    def is_hopeless(self) -> bool:
        """Whether so much is wrong that no more need be looked for."""
        return len(self.faults) >= FAULTS_MAX

    def raise_faults(self) -> None:
        """Refuse the request when anything in it is wrong.

        Raises:
            BadInput: the one fault.
            Problems: `invalid_request`, several of them.
        """
        if len(self.faults) == 1:
            raise self.faults[0]
        if self.faults:
            raise Problems("invalid_request", self.faults, next_step="mend what is named, then send it again")

    # ── one member each ─────────────────────────────────────────────────────────────────────────

    def text(self, name: str) -> str:
        """A mandatory text of 1 to 512 characters."""
        value = self._raw.get(name, _MISSING)
        if value is _MISSING:
            self.fault("missing_field", name, "it is mandatory", f"send {name}")
            return ""
        return self._text(name, value)

    def text_or_none(self, name: str) -> str | None:
        """A text that may be left out, or null."""
        value = self._raw.get(name)
        return None if value is None else self._text(name, value)

    def choice(self, name: str, choices: Collection[str], default: str | None = None) -> str:
        """One of a few words."""
        if default is not None and name not in self._raw:
            return default
        value = self.text(name)
        if value and value not in choices:
            listed = ", ".join(choices)
            hint = did_you_mean(value, choices)
            self.fault("not_a_choice", name, f"{short(value)!r} is none of {listed}{hint}", "send one of them")
        return value

    def flag(self, name: str) -> bool:
        """True or false; false when left out."""
        value = self._raw.get(name, False)
        if not isinstance(value, bool):
            self._wrong_type(name, "true or false")
        return value is True

    def integer(self, name: str, default: int, smallest: int, largest: int) -> int:
        """A whole number within bounds."""
        value = self._raw.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            self._wrong_type(name, "a whole number")
            return default
        if not smallest <= value <= largest:
            self.fault(
                "invalid_number", name, f"it is not between {smallest:,} and {largest:,}", "send a number in between"
            )
        return value

    def amount_pico(self, name: str, unit: str, *, smallest: int = 1) -> int:
        """A mandatory amount above zero (with `smallest` 0, or nothing), in pico-units, from a decimal string."""
        value = self._raw.get(name, _MISSING)
        if value is _MISSING:
            self.fault(
                "missing_field", name, "it is mandatory", f'send it as a string of digits, such as "{name}": "5"'
            )
            return 0
        return self._amount(name, value, unit, smallest)

    def amount_pico_or_none(self, name: str, unit: str, *, smallest: int = 1) -> int | None:
        """As `amount_pico`, or None when it is left out; `smallest` 0 when nothing is an amount too."""
        value = self._raw.get(name)
        return None if value is None else self._amount(name, value, unit, smallest)

    def instant_or_none(self, name: str) -> datetime | None:
        """An instant, None when it is left out."""
        value = self._raw.get(name)
        if value is None:
            return None
        try:
            return parse_instant(value, where=name)
        except BadInput as error:
            self.faults.append(error.with_traceback(None))
            return None

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        """A list of texts; empty when it is left out."""
        value = self._raw.get(name, [])
        if not isinstance(value, list | tuple):
            self._wrong_type(name, "a list of text")
            return ()
        if len(value) > most:
            self.fault("too_long", name, f"it has {len(value):,} items; {most} are the most", "send fewer")
            return ()
        return tuple(self._text(f"{name}.{place}", item) for place, item in enumerate(value))

    def table(self, name: str, most: int) -> Mapping[str, Any]:
        """An object; empty when it is left out. What it holds is looked at by the caller."""
        value = self._raw.get(name, {})
        if not isinstance(value, Mapping):
            self._wrong_type(name, "an object")
            return {}
        if len(value) > most:
            self.fault("too_long", name, f"it has {len(value):,} members; {most} are the most", "send fewer")
            return {}
        return value

    def items(self, name: str) -> list[Any]:
        """A list of anything; empty when it is left out."""
        value = self._raw.get(name, [])
        if not isinstance(value, list):
            self._wrong_type(name, "a list")
            return []
        return value

    def value(self, name: str) -> Any:
        """The member as it was sent; None when it was not."""
        return self._raw.get(name)

    def _text(self, where: str, value: object) -> str:
        try:
            check_text(where, value)
        except BadInput as error:
            self.faults.append(error.with_traceback(None))
            return ""
        return str(value)

    def _amount(self, name: str, value: object, unit: str, smallest: int = 1) -> int:
        try:
            exact = parse_decimal(value, where=name) * PICO
        except BadInput as error:
            self.faults.append(error.with_traceback(None))
            return 0
        if exact.denominator != 1:
            self.fault("amount_too_fine", name, "it has more than 12 decimal places", "round it to 12 or fewer")
        elif exact < smallest:
            wanted = "above zero" if smallest else "zero or more"
            self.fault("invalid_amount", name, f"{value} {unit} is not {wanted}", f"send an amount {wanted}")
        elif exact > (pico_max := CREDITS_PICO_MAX if unit == "credits" else PICO_MAX):
            most = pico_max // PICO
            self.fault(
                "invalid_amount", name, f"it is more than {most:,} {unit}", "check its unit, or send it in parts"
            )
        return int(exact)

    def _wrong_type(self, name: str, wanted: str) -> None:
        self.fault("wrong_type", name, f"it must be {wanted}", f"send {wanted}")


def short(value: object) -> str:
    """What was sent, no longer than an error's sentence bears."""
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def did_you_mean(name: object, choices: Iterable[str]) -> str:
    """A hint at the nearest of the choices, or nothing."""
    close = difflib.get_close_matches(short(name), list(choices), n=1)
    return f"; did you mean {close[0]}?" if close else ""
