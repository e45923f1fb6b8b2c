"""The words of the books: no org's accounts are taken for another's, and no amount is rounded."""

from __future__ import annotations

from datetime import UTC, date, datetime
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from hledger_reader import read_journal
from tallystick.billing.books import Balance, Moved, closing, entry_text, journal_head, opening, org_head, org_prefix

AT = datetime(2026, 11, 2, 23, 59, 59, 999_999, tzinfo=UTC)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
ASSETS = st.sampled_from(["USD", "CREDIT"])
ACCOUNTS = ("cash", "receivable", "revenue", "wallet_held", "promo_expense")


@given(NAMES, st.booleans())
def test_an_orgs_name_is_read_back_from_its_accounts(org_id: str, is_test: bool) -> None:
    prefix = org_prefix(org_id, is_test=is_test)
    kind, _, name = prefix.partition(":")
    assert (kind, unquote(name)) == ("test" if is_test else "org", org_id)
    assert prefix.isascii()
    assert not set(name) & set(":;()[] \t\n\"'")


moves = st.lists(
    st.tuples(st.permutations(ACCOUNTS), ASSETS, st.integers(0, 10**38 - 1)).map(
        lambda one: Moved(one[0][0], one[0][1], one[1], one[2])
    ),
    max_size=6,
)


@given(NAMES, st.lists(moves, max_size=5), st.lists(moves, max_size=3))
def test_what_is_written_comes_to_what_was_moved(
    org_id: str, entries: list[list[Moved]], before: list[list[Moved]]
) -> None:
    org = org_prefix(org_id, is_test=False)
    sums: dict[tuple[str, str], int] = {}

    def add(moved: list[Moved]) -> None:
        for one in moved:
            sums[one.debit_account, one.asset] = sums.get((one.debit_account, one.asset), 0) + one.amount_pico
            sums[one.credit_account, one.asset] = sums.get((one.credit_account, one.asset), 0) - one.amount_pico

    def balances() -> list[Balance]:
        return [Balance(account, asset, pico) for (account, asset), pico in sorted(sums.items())]

    for moved in before:
        add(moved)
    began = opening(org, date(2026, 11, 1), balances())
    texts = []
    for place, moved in enumerate(entries, 1):
        add(moved)
        texts.append(entry_text(org, "payment", place, place, AT, moved))
    text = journal_head(first=None, last=None) + org_head(org, balances()) + began + "".join(texts)
    found, kinds = read_journal(text + closing(org, AT.date(), balances()))
    assert {key: pico for key, pico in found.items() if pico and "opening" not in key[0]} == {
        (f"{org}:{account}", asset): pico for (account, asset), pico in sums.items() if pico
    }
    assert kinds.count("payment") == sum(any(one.amount_pico for one in moved) for moved in entries)


def test_an_entry_is_a_transaction_with_its_id_and_kind() -> None:
    moved = [Moved("cash", "receivable", "USD", 1)]
    assert entry_text("org:a", "payment", 7, 7, AT, moved) == (
        "\n2026-11-02 (p7) payment  ; kind:payment, entry:7, recorded:2026-11-02T23:59:59.999999Z\n"
        "    org:a:cash  0.000000000001 USD\n"
        "    org:a:receivable  -0.000000000001 USD\n"
    )
    usage = entry_text("org:a", "usage", 9, 3, AT, [Moved("provider_usage_cost", "provider_payable", "USD", 10**12)])
    assert usage.startswith("\n2026-11-02 (e3-9) usage  ; kind:usage, entry:3-9, recorded:")
    assert entry_text("org:a", "usage", 9, 9, AT, [Moved("provider_usage_cost", "provider_payable", "USD", 0)]) == ""
