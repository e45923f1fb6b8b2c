"""However often it is looked: an alert fires once, each level of it is told at most once, and it is resolved once."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from tallystick.alerts.model import Condition, Firing, Key, Silence, Transition, alert_id
from tallystick.alerts.preferences import Preferences, QuietHours
from tallystick.alerts.transitions import transitions

START = datetime(2026, 11, 2, tzinfo=UTC)
KEYS: list[Key] = [
    ("acme", "limit", "a"),
    ("acme", "limit", "b"),
    (None, "failed_job", "seal"),
    ("b", "spend_spike", "d"),
]
SEVERITY = {0: "info", 1: "info", 2: "warning", 3: "critical"}


def condition(key: Key, level: int) -> Condition:
    return Condition(
        org_id=key[0], rule=key[1], subject=key[2], level=level, severity=SEVERITY[level], summary=f"{level}",  # type: ignore[arg-type]
        figures={}, next_step="look",
    )  # fmt: skip


def apply(changes: list[Transition], fires: dict[Key, Firing], times: Counter[Key]) -> None:
    """What is stored of changes, as the database stores it."""
    for one in changes:
        if one.was is None:
            assert one.key not in fires
            times[one.key] += 1
            told = one.level if one.held_back is None else 0
            fires[one.key] = Firing(
                alert_id(one.key, times[one.key]), *one.key, one.level, told, 1, one.at, one.severity, one.summary,
                one.figures, one.next_step, one.is_test,
            )  # fmt: skip
        elif one.change == "resolved":
            del fires[one.key]
        else:
            told = one.level if one.held_back is None else one.was.told_level
            fires[one.key] = one.was._replace(
                level=one.level,
                told_level=told,
                changes=one.was.changes + 1,
                severity=one.severity,
                summary=one.summary,
            )


looks = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(KEYS), st.integers(0, 3)),
        st.integers(0, 900),  # minutes that pass
        st.booleans(),  # whether limits could be looked at
    ),
    max_size=12,
)
silenced = st.lists(
    st.tuples(
        st.sampled_from(["acme", None, "b"]),
        st.sampled_from(["limit", None]),
        st.integers(0, 3000),
        st.integers(1, 3000),
    ),
    max_size=3,
)
wishes = st.builds(
    Preferences,
    off=st.sampled_from([frozenset(), frozenset({"limit"})]),
    min_severity=st.sampled_from(["info", "warning", "critical"]),
    quiet_hours=st.sampled_from([None, QuietHours(starts=1320, ends=420)]),
)


def _look(
    conditions: list[Condition],
    fires: dict[Key, Firing],
    now: datetime,
    limits_looked: bool,
    wanted: Preferences,
    quiet: list[Silence],
) -> list[Transition]:
    return transitions(
        conditions,
        list(fires.values()),
        now=lambda _: now,
        looked=lambda key: limits_looked or key[1] != "limit",
        preferences={"acme": wanted},
        silences=quiet,
    )


@given(looks, silenced, wishes)
def test_an_alert_fires_once_grows_is_told_once_and_ends_once(
    taken: list[tuple[dict[Key, int], int, bool]],
    silences: list[tuple[str | None, str | None, int, int]],
    wanted: Preferences,
) -> None:
    quiet = [
        Silence(f"s{n}", org, rule, None, START + timedelta(minutes=since), START + timedelta(minutes=since + length))
        for n, (org, rule, since, length) in enumerate(silences)
    ]
    fires: dict[Key, Firing] = {}
    times: Counter[Key] = Counter()
    history: list[tuple[str, Transition]] = []
    now = START
    for found, minutes, limits_looked in taken:
        now += timedelta(minutes=minutes)
        conditions = [condition(key, level) for key, level in found.items() if limits_looked or key[1] != "limit"]

        look = partial(_look, conditions, fires, now, limits_looked, wanted, quiet)
        before = dict(fires)
        changes = look()
        apply(changes, fires, times)
        for one in changes:
            known = one.was.alert_id if one.was is not None else fires[one.key].alert_id
            history.append((known, one))
            covered = any(silence.covers(one.key, now) for silence in quiet)
            assert (one.held_back or "").startswith("silence:") == covered
        assert look() == []  # what was told once is told once, and a second look finds nothing left
        for key, was in before.items():
            if not limits_looked and key[1] == "limit":
                assert fires[key] == was
        for one in conditions:
            off = one.org_id == "acme" and one.rule in wanted.off
            if one.level and not off:
                assert fires[one.key].level >= one.level
    by_alert: dict[str, list[Transition]] = {}
    for known, one in history:
        by_alert.setdefault(known, []).append(one)
    for known, events in by_alert.items():
        kinds = [one.change for one in events]
        assert kinds[0] == "firing"
        assert kinds.count("firing") == 1
        assert kinds.count("resolved") == (0 if known in {one.alert_id for one in fires.values()} else 1)
        assert "resolved" not in kinds[:-1]
        told = [one.level for one in events if one.held_back is None and one.change != "resolved"]
        assert told == sorted(set(told))  # each level is told at most once, and they only grow
        ended = [one for one in events if one.change == "resolved"]
        if ended and ended[0].held_back is None:
            assert told  # nobody hears of the end of what they were not told of


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 3)), max_size=8), st.randoms())
def test_the_order_in_which_things_are_found_makes_no_difference(found: list[tuple[Key, int]], chance: object) -> None:
    conditions = [condition(key, level) for key, level in found]
    mixed = list(conditions)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    looks = [
        transitions(given_, [], now=lambda _: START, looked=lambda _: True, preferences={})
        for given_ in (conditions, mixed)
    ]
    assert looks[0] == looks[1]
    assert [one.key for one in looks[0]] == sorted(
        (one.key for one in looks[0]), key=lambda key: (key[0] or "", *key[1:])
    )
