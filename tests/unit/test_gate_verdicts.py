"""What the gate lets pass and what it does not, each with its reason."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from tallystick.app.gate import candidate_of, read_attributes, read_increase, read_range
from tallystick.app.gate_compare import Comparison, Terms, compare
from tallystick.app.gate_sample import NO_NAME, Request, Sample
from tallystick.cli.gate import _escaped
from tallystick.core.errors import BadInput

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
TENTH = Fraction(1, 10)


def sample(**groups: list[int | None]) -> Sample:
    made = Sample()
    for name, costs in groups.items():
        for cost in costs:
            made.add(Request(name, "openai", "gpt-4o", silent=False, cost_pico=cost))
    return made


def codes(found: Comparison) -> list[tuple[str, str | None]]:
    return [(reason.code, reason.group) for reason in found.reasons]


def judge(ours: Sample, theirs: Sample, *, least: int = 3, **more: bool) -> Comparison:
    return compare(ours, theirs, Terms(TENTH, least, **more))


@pytest.mark.parametrize(("cost", "passes"), [(100, True), (110, True), (111, False), (90, True)])
def test_a_group_may_grow_by_as_much_as_is_let_pass_and_no_more(cost: int, passes: bool) -> None:
    found = judge(sample(chat=[cost] * 3), sample(chat=[100] * 3))
    assert found.passed is passes
    assert codes(found) == ([] if passes else [("cost_grew", "chat"), ("cost_grew", None)])


def test_one_group_that_grew_is_not_hidden_by_another_that_shrank() -> None:
    found = judge(sample(chat=[200] * 3, search=[500] * 3), sample(chat=[100] * 3, search=[1000] * 3))
    assert codes(found) == [("cost_grew", "chat")]


def test_another_mix_of_the_same_costs_passes_and_is_named() -> None:
    found = judge(sample(cheap=[1] * 3, dear=[100] * 30), sample(cheap=[1] * 30, dear=[100] * 3))
    assert found.passed
    assert found.total[0] is not None
    assert found.total[0] > 1
    assert found.total[1] == 0
    assert any("the mix of groups alone" in note for note in found.notes)
    assert any("dear is 90.91% of all calls, and was 9.09%" in note for note in found.notes)


def test_what_was_free_must_stay_free() -> None:
    found = judge(sample(chat=[1] * 3), sample(chat=[0] * 3))
    assert ("cost_grew", "chat") in codes(found)
    assert judge(sample(chat=[0] * 3), sample(chat=[0] * 3)).passed


def test_too_few_calls_prove_nothing() -> None:
    few = judge(sample(chat=[1] * 2, search=[1] * 3), sample(chat=[1] * 9, search=[1] * 3))
    assert codes(few) == [("sample_too_small", "chat")]
    assert judge(sample(chat=[1], search=[1] * 3), sample(chat=[1], search=[1] * 3), ignore_small=True).passed
    assert codes(judge(Sample(), sample(chat=[1] * 9))) == [("sample_too_small", None)]
    assert codes(judge(sample(chat=[1] * 9), Sample(), allow_new=True)) == [("sample_too_small", None)]


def test_an_unknown_cost_fails_on_either_side() -> None:
    for ours, theirs in (([1, 1, 1, None], [1] * 3), ([1] * 3, [None, 1, 1, 1])):
        assert codes(judge(sample(chat=ours), sample(chat=theirs))) == [("unpriced", "chat")]
    assert codes(judge(sample(new=[None]), sample(chat=[1] * 3))) == [("unpriced", "new"), ("sample_too_small", None)]


def test_a_group_that_the_baseline_lacks_fails_unless_it_may() -> None:
    ours, theirs = sample(chat=[1] * 3, new=[1] * 3), sample(chat=[1] * 3, old=[1] * 3)
    assert codes(judge(ours, theirs)) == [("no_baseline", "new")]
    allowed = judge(ours, theirs, allow_new=True)
    assert allowed.passed
    assert any("old was not called" in note for note in allowed.notes)


def test_models_that_only_the_candidate_calls_are_named() -> None:
    ours = sample(chat=[1] * 3)
    ours.add(Request("chat", "openai", "gpt-9", silent=False, cost_pico=1))
    found = judge(ours, sample(chat=[1] * 3))
    assert found.passed
    assert found.rows[0].new_models == ("openai/gpt-9",)


def test_requests_that_were_settled_together_are_one_call() -> None:
    made = Sample()
    requests = [Request("write", "openai", "gpt-4o", silent=False, cost_pico=5, request_id=name) for name in "abcd"]
    made.add_org(requests, [("a", "b"), ("c", "elsewhere")])
    assert dict(made.groups["write"].counts) == {10: 1, 5: 2}


def test_what_failed_without_using_anything_is_left_out() -> None:
    made = Sample()
    made.add(Request("chat", None, None, silent=True, cost_pico=0, calls=7))
    made.add(Request(None, None, None, silent=False, cost_pico=3))
    assert (made.failed, made.calls, list(made.groups)) == (7, 1, [NO_NAME])


def test_ranges_of_time() -> None:
    assert read_range("7d", NOW) == (NOW - timedelta(days=7), NOW)
    assert read_range("12h", NOW) == (NOW - timedelta(hours=12), NOW)
    assert read_range("2026-10-01..2026-10-08", NOW) == (
        datetime(2026, 10, 1, tzinfo=UTC),
        datetime(2026, 10, 8, tzinfo=UTC),
    )
    for text in ("", "7", "0d", "d", "7y", "999999w", "-7d", "yesterday"):
        with pytest.raises(BadInput) as caught:
            read_range(text, NOW)
        assert caught.value.code == "invalid_against"
    for text, code in (("2026-10-08..2026-10-01", "invalid_period"), ("2026-10-01..", "invalid_time")):
        with pytest.raises(BadInput) as caught:
            read_range(text, NOW)
        assert caught.value.code == code


def test_increases_are_written_in_per_cent() -> None:
    assert [read_increase(text) for text in ("10%", "0%", "2.5 %", "150%")] == [
        TENTH,
        0,
        Fraction(1, 40),
        Fraction(3, 2),
    ]
    for text in ("10", "", "%", "-1%", "nan%", "inf%", "1e9%", "ten%"):
        with pytest.raises(BadInput) as caught:
            read_increase(text)
        assert caught.value.code == "invalid_increase"


def test_a_candidate_without_a_time_is_of_the_last_day_unless_it_is_named() -> None:
    assert candidate_of(NOW, "staging").start == NOW - timedelta(days=1)
    assert candidate_of(NOW, "staging", sessions=["run-7"]).start.year == 2000
    assert read_attributes(["build=7", "a="]) == {"build": "7", "a": ""}
    for text in ("build", "=7"):
        with pytest.raises(BadInput) as caught:
            read_attributes([text])
        assert caught.value.code == "invalid_attribute"


def test_a_name_stays_text_in_a_pipelines_summary() -> None:
    """Whoever sends requests names features; nothing of a name is markup, an entity, or the end of a cell."""
    name = "a|b`c`\n# <script>&lt;[x](javascript:y) **z** ~s~ $m$ \\"
    said = _escaped(name)
    assert "\n" not in said
    for sign in "|`#<>&[]*~$":
        assert said.count("\\" + sign) == name.count(sign), sign
    assert re.sub(r"\\(.)", r"\1", said) == " ".join(name.split())
