"""Months of a business on every plan, lived in several ways: the books are the same, and they add up.

The whole year with fifty customers is a command of its own: `python3 tasks.py year`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from year.run import Lived, Year, live

YEAR = Year(seed=32, orgs=7, months=2)


@pytest.fixture(scope="module")
def planned(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """The year as it was planned."""
    return live(YEAR, "planned", module_database_url, tmp_path_factory.mktemp("year"), replayed=8)


def test_the_books_of_a_year_add_up(planned: Lived) -> None:
    assert planned.faults == []
    assert sum(map(len, planned.books["invoices"].values())) >= YEAR.orgs * YEAR.months
    assert {row[0] for rows in planned.books["credits"].values() for row in rows} >= {"promo", "sla"}
    assert planned.books["disputes"]


@pytest.mark.parametrize("way", ["twice", "killed"])
def test_the_books_are_the_same_in_any_order_done_twice_and_with_jobs_killed(
    way: str, planned: Lived, database_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    lived = live(YEAR, way, database_url, tmp_path, replayed=0)
    assert capfd.readouterr() == ("", "")  # its alerts are logged nowhere
    assert lived.faults == []
    assert lived.books == planned.books
    assert lived.killed > 0 or way != "killed"
