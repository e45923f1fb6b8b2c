"""Whose work usage is, told as in a plain table, in whatever order settlements come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tallystick.ledger.usage_claims import UsageClaims

claims = st.lists(st.sets(st.integers(1, 40), max_size=12), max_size=12)


@given(claims)
def test_the_first_claim_holds_and_each_later_one_is_told_of(named: list[set[int]]) -> None:
    found, table = UsageClaims(), dict[int, int]()
    for number, seqs in enumerate(named):
        settlement_seq = 100 - number  # in no order of theirs
        taken = found.add(settlement_seq, seqs)
        assert sorted(taken) == sorted((seq, table[seq]) for seq in seqs if seq in table)
        for seq in seqs:
            table.setdefault(seq, settlement_seq)
    assert {seq: found.of(seq) for seq in range(42)} == {seq: table.get(seq) for seq in range(42)}


def test_what_settlements_bring_takes_a_row_each_however_much_it_is() -> None:
    found = UsageClaims()
    for number in range(1000):
        assert found.add(1000 * number + 1000, range(1000 * number, 1000 * number + 999)) == []
    assert [found.of(seq) for seq in (0, 998, 999, 1000, 999_998, 999_999)] == [1000, 1000, None, 2000, 1_000_000, None]
    assert found.add(7, [5, 999]) == [(5, 1000)]
    assert found.of(999) == 7
