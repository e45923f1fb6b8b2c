"""Whatever the text, loading ends in a contract or in errors that name their place; and the hash is of the content."""

from __future__ import annotations

import random

from hypothesis import example, given
from hypothesis import strategies as st

from tallystick.app.contract_files import reference_text
from tallystick.contract.advice import advise
from tallystick.contract.loader import load_contract
from tallystick.contract.price_list import price_list, price_list_json
from tallystick.core.errors import Problems

LINES = reference_text().splitlines()
SHA256 = load_contract(reference_text(), "c.yaml").sha256
SCRAPS = [
    "",
    "null",
    "0.1",
    "-1",
    "[]",
    "{}",
    "yes",
    '"',
    "{",
    "\t",
    "&a",
    "*a",
    "!!int 3",
    "---",
    "1e9",
    "~",
    ": :",
    "é\u2028",
]


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """The reference contract with a few lines lost, doubled, indented anew or overwritten."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        key = lines[at].split(":")[0]
        lines[at : at + 1] = draw(
            st.sampled_from(
                [[], [lines[at]] * 2, [" " + lines[at]], [lines[at].strip()], *([f"{key}: {s}"] for s in SCRAPS)]
            )
        )
        if not lines:
            break
    return "\n".join(lines)


@given(st.one_of(damaged(), st.text()))
@example("a: 'x\u2028\n\ty'")
def test_any_text_gives_a_contract_or_errors_with_their_place(text):
    try:
        contract = load_contract(text, "c.yaml")
    except Problems as error:
        refused = error
    else:
        advise(contract)
        assert contract.sha256 in price_list(contract)
        price_list_json(contract)
        return
    assert refused.problems
    for problem in refused.problems:
        assert (problem.where or "").startswith("c.yaml:")
        assert problem.detail
        assert problem.next_step


@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_comments_spacing_and_the_order_of_parts_do_not_change_the_hash(chance: random.Random, blank_lines: int):
    parts: list[list[str]] = []
    for line in LINES:
        code = line.split("  #")[0]
        if code and not code.startswith((" ", "#")):
            parts.append([])
        if parts:
            parts[-1].extend([code, *[""] * blank_lines, "# a remark"])
    chance.shuffle(parts)
    shuffled = "\n".join(line for part in parts for line in part)
    assert load_contract(shuffled, "c.yaml").sha256 == SHA256
