"""The terms of billable work, said plainly or as functions of a call's arguments."""

from __future__ import annotations

import inspect
import string
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Terms:
    """As said; see `Billable`."""

    action: str
    key: Any
    model: Any
    meters: Any
    provider: Any
    request_id: Any
    tags: Mapping[str, Any]

    def plain(self) -> dict[str, Any]:
        """The members of a request, said plainly.

        Raises:
            TypeError: a key that is no text or number.
        """
        return self._members(lambda _, value: value)

    def of_call(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The members of a request for a call with these arguments.

        Raises:
            TypeError: as `plain`.
        """

        def value_of(name: str, value: Any) -> Any:
            if callable(value):
                return value(**arguments) if _takes_names(value, arguments) else value(*arguments.values())
            if name == "work_key" and isinstance(value, str):
                return value.format(**arguments) if "{" in value else arguments[value]
            return value

        return self._members(value_of)

    def _members(self, value_of: Callable[[str, Any], Any]) -> dict[str, Any]:
        said = {
            "work_key": self.key, "model": self.model, "meters": self.meters, "provider": self.provider,
            "request_id": self.request_id, **self.tags,
        }  # fmt: skip
        found = {name: value_of(name, value) for name, value in said.items() if value is not None}
        for name in ("work_key", "request_id"):
            if found.get(name) is not None:
                found[name] = _as_text(name, found[name])
        return {"action": self.action, **{name: value for name, value in found.items() if value is not None}}


def bound_terms(
    terms: Terms, function: Callable[..., Any]
) -> Callable[[tuple[Any, ...], Mapping[str, Any]], Mapping[str, Any]]:
    """What makes the members of a request from the arguments of a call of that function.

    Raises:
        TypeError: `key` names no parameter of it.
    """
    signature = inspect.signature(function)
    if isinstance(terms.key, str):
        for name in _names_in(terms.key):
            if name not in signature.parameters:
                raise TypeError(f"key={terms.key!r}: {function.__qualname__} has no parameter {name!r}")

    def bind(given: tuple[Any, ...], more: Mapping[str, Any]) -> Mapping[str, Any]:
        bound = signature.bind(*given, **more)
        bound.apply_defaults()
        return terms.of_call(bound.arguments)

    return bind


def _names_in(key: str) -> list[str]:
    if "{" not in key:
        return [key]
    found = [field for _, field, _, _ in string.Formatter().parse(key) if field is not None]
    return [field.replace("[", ".").split(".")[0] for field in found]


def _takes_names(function: Callable[..., Any], arguments: Mapping[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(**arguments)
    except (TypeError, ValueError):
        return False
    return True


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, uuid.UUID)):
        # The text of most objects differs from run to run: no work would ever be the same again.
        raise TypeError(f"{name} is {type(value).__name__}; give text, a whole number or a UUID")
    return str(value)
