"""A journal for hledger, read without hledger: its balances, and whether its transactions and assertions hold."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

_AMOUNT = r"(-?\d+\.\d{12}) (USD|CREDIT)"
_POSTING = re.compile(rf"    ((?:org|test):[A-Za-z0-9._@%-]+:[a-z_]+)  {_AMOUNT}(?: = {_AMOUNT})?")
_HEAD = re.compile(
    r"(\d{4}-\d\d-\d\d) \(([a-z]\d+(?:-\d+)?|opening|closing)\) [a-z ]+"
    r"  ; kind:([a-z_]+)(?:, entry:[\d-]+, recorded:[\dT:.-]+Z)?"
)
_DECLARED = re.compile(r"account ((?:org|test):[A-Za-z0-9._@%-]+:[a-z_]+)(?:  ; type:[ALCEXR])?")


def read_journal(text: str) -> tuple[dict[tuple[str, str], int], list[str]]:
    """Balances in pico by account and asset, and the kinds of its transactions in their order."""
    balances: dict[tuple[str, str], int] = defaultdict(int)
    kinds: list[str] = []
    declared = set()
    for paragraph in text.split("\n\n"):
        lines = paragraph.strip("\n").splitlines()
        if not lines or lines[0].startswith((";", "commodity ")):
            assert all(line.startswith((";", "commodity 1000.000000000000 ")) for line in lines)
        elif lines[0].startswith("account "):
            found = [_DECLARED.fullmatch(line) for line in lines]
            assert all(found), lines
            declared |= {one[1] for one in found if one}
        else:
            head = _HEAD.fullmatch(lines[0])
            assert head, lines[0]
            kinds.append(head[3])
            _post(lines[1:], balances, declared)
    return dict(balances), kinds


def _post(lines: Iterable[str], balances: dict[tuple[str, str], int], declared: set[str]) -> None:
    sums: dict[str, int] = defaultdict(int)
    for line in lines:
        found = _POSTING.fullmatch(line)
        assert found, line
        account, amount, asset, asserted, asserted_asset = found.groups()
        assert account in declared, account
        pico = _pico(amount)
        sums[asset] += pico
        balances[account, asset] += pico
        if asserted is not None:
            assert asserted_asset == asset
            assert balances[account, asset] == _pico(asserted), line
    assert not any(sums.values()), list(lines)


def _pico(amount: str) -> int:
    return int(amount.replace(".", ""))  # it has twelve places
