"""Differences in words, warnings about what is probably not meant, and the price list that customers read."""

from __future__ import annotations

import pytest

from tallystick.app.contract_files import check_contract_text, reference_text
from tallystick.contract.diff import concerned, diff_contracts
from tallystick.contract.loader import load_contract
from tallystick.contract.price_list import price_list, price_list_json
from tallystick.core.errors import BadInput

HEAD = 'contract: acme\nversion: "1"\neffective_from: 2026-10-01\n'
REFERENCE = load_contract(reference_text(), "reference.yaml")


def changed(*replacements: tuple[str, str]):
    text = reference_text()
    for old, new in replacements:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return [change.sentence() for change in diff_contracts(REFERENCE, load_contract(text, "new.yaml"))]


def test_the_same_terms_in_another_layout_do_not_differ():
    text = "# another comment\n" + reference_text().replace('"0.10"', '"0.100"')
    assert diff_contracts(REFERENCE, load_contract(text, "new.yaml")) == ()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('base: "10"', 'base: "12"', "plans.pro.base: 10.00 USD a month → 12.00 USD a month"),
        ('{unit: "0.02"}', '{unit: "0.025"}', "plans.pro.prices.images_generated: 0.02 USD each → 0.025 USD each"),
        (
            "max: 50_000_000, per: month, kind: soft, warn_at: [0.5, 0.8, 1.0]",
            "max: 40_000_000, per: month, kind: soft, warn_at: [0.5]",
            "plans.pro.limits.tokens_out, soft, per month: at most 50,000,000 a month, warned at 50 %, 80 %, 100 % → "
            "at most 40,000,000 a month, warned at 50 %",
        ),
        ("staging: {charge: false}", "staging: {charge: true}", "environments.staging: not charged → charged"),
        ("max_credits: 200", "max_credits: 300", "actions.research.max_credits: 200 credits → 300 credits"),
        (
            "upgrade_to: credits", "upgrade_to: pro", "plans.discovery.upgrade_to: credits → pro"
        ),
        ("enforcement: enforce", "enforcement: shadow", "enforcement: enforce → shadow"),
        ("holds: {life: 15m}", "holds: {life: 1h}", "holds.life: 15 minutes → 1 hour"),
        ("refunds: {grace: 7d}", "refunds: {grace: 36h}", "refunds.grace: 7 days → 36 hours"),
        (
            "overage: false",
            "overage: true",
            "plans.credits.overage: added: what exceeds a hold is charged, up to the action's most",
        ),
        ("overage: false", "enforcement: shadow", "plans.credits.enforcement: added: shadow"),
        (
            "included_credits: 300",
            "included_credits: 400",
            "plans.discovery.included_credits: 300 a month → 400 a month",
        ),
    ],
)  # fmt: skip
def test_a_changed_term_is_said_in_words(old, new, sentence):
    assert changed((old, new)) == [sentence]


def test_a_parents_change_shows_in_each_plan_that_inherits_it():
    free_calls = ("free: 10_000", "free: 20_000")
    assert [sentence.split(":")[0] for sentence in changed(free_calls)] == [
        "plans.enterprise.prices.tool_calls",
        "plans.enterprise-initech.prices.tool_calls",
    ]


def test_a_plan_that_came_or_went_is_one_change():
    before = load_contract(f"{HEAD}plans: {{a: {{}}, b: {{base: 1}}}}\n", "a.yaml")
    after = load_contract(f"{HEAD}plans: {{a: {{}}, c: {{base: 2}}}}\n", "b.yaml")
    changes = diff_contracts(before, after)
    assert [(change.path, change.kind) for change in changes] == [("plans.b", "removed"), ("plans.c", "added")]
    assert changes[1].sentence() == "plans.c: added: title c; kind usage; base 2.00 USD a month"


@pytest.mark.parametrize(
    ("old", "new", "plans"),
    [
        ('base: "10"', 'base: "12"', ["pro"]),
        ("price: {credits: 5}", "price: {credits: 6}", ["credits", "discovery"]),
        ("title: Tailor a document", "title: Tailor", list(REFERENCE.plans)),
        ("price: {credits: 2}", "price: {credits: 3}", ["credits"]),
        ("pages_reviewed: {unit: page}", "pages_reviewed: {unit: sheet}", []),
        ('credit: {name: credit, usd: "0.01"}', 'credit: {name: credit, usd: "0.02"}', ["credits", "discovery"]),
        ("grace: 7d", "grace: 8d", ["credits", "discovery"]),
        ("life: 15m", "life: 16m", list(REFERENCE.plans)),
        ("staging: {charge: false}", "staging: {charge: true}", list(REFERENCE.plans)),
        ("enforcement: enforce", "enforcement: shadow", list(REFERENCE.plans)),
        ('version: "2026-10-01"', 'version: "2026-10-02"', []),
    ],
)  # fmt: skip
def test_a_change_says_which_plans_it_is_about(old, new, plans):
    text = reference_text()
    assert text.count(old) == 1
    after = load_contract(text.replace(old, new), "new.yaml")
    (change,) = diff_contracts(REFERENCE, after)
    assert list(concerned(change, REFERENCE, after)) == plans


def test_a_plan_with_a_mode_of_its_own_is_not_about_the_contracts():
    text = f"{HEAD}enforcement: enforce\nplans: {{a: {{}}, b: {{enforcement: shadow}}}}\n"
    before, after = (load_contract(one, "c.yaml") for one in (text, text.replace(": enforce\n", ": shadow\n")))
    (change,) = diff_contracts(before, after)
    assert concerned(change, before, after) == ("a",)


def test_an_action_that_comes_is_about_the_plans_that_offer_every_action():
    plans = "plans: {all: {}, some: {actions: [go]}, wallet: {kind: credits, top_up: true}}\n"
    go = "  go: {price: {credits: 1}}\n"
    head = f"{HEAD}credit: {{usd: 1}}\nactions:\n{go}"
    before = load_contract(head + plans, "a.yaml")
    after = load_contract(f"{head}  check.price: {{price: {{credits: 1}}}}\n" + plans, "b.yaml")
    (change,) = diff_contracts(before, after)
    assert concerned(change, before, after) == ("all", "wallet")
    assert [
        concerned(one, before, after)
        for one in diff_contracts(before, load_contract((head + plans).replace("credits: 1", "credits: 2"), "c.yaml"))
    ] == [("wallet",)]


def advice(text: str) -> list[tuple[str, str]]:
    _, warnings = check_contract_text(HEAD + text, "c.yaml")
    return [(warning.code, warning.where) for warning in warnings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plans: {p: {}}\n", []),
        ("meters: {pages: {unit: page}}\nplans: {p: {}}\n", [("unused_meter", "c.yaml:4: meters.pages")]),
        ("meters: {pages: {unit: page}}\nplans: {p: {prices: {pages: {unit: 1}}}}\n", []),
        (
            "plans:\n  p:\n    prices: {tokens_in: {unit: 1}}\n",
            [("tokens_not_charged", "c.yaml:6: plans.p.prices")],
        ),
        ("plans: {p: {prices: {tool_calls: {unit: 1}}}}\n", []),
        (
            "plans:\n  p:\n    limits: [{meters: [tool_calls], max: 0, per: day, kind: hard}]\n"
            "    prices: {tool_calls: {unit: 1}}\n",
            [("never_applies", "c.yaml:7: plans.p.prices.tool_calls")],
        ),
        (
            "plans:\n  p:\n    limits: [{meters: [tool_calls], max: 10, per: month, kind: hard}]\n"
            "    prices: {tool_calls: {graduated: [{up_to: 10, unit: 2}, {unit: 1}]}}\n",
            [("never_applies", "c.yaml:7: plans.p.prices.tool_calls")],
        ),
        (
            "plans:\n  p:\n    limits: [{meters: [tool_calls], max: 11, per: month, kind: hard}]\n"
            "    prices: {tool_calls: {graduated: [{up_to: 10, unit: 2}, {unit: 1}]}}\n",
            [],
        ),
        (
            'plans: {p: {prices: {web_searches: {cost_plus: "0.1"}}}}\n',
            [("cost_left_out", "c.yaml:4: plans.p.prices.web_searches")],
        ),
        ('plans: {p: {prices: {web_searches: {cost_plus: "0.1", includes: [provider_cost_adjustment]}}}}\n', []),
        (
            "plans: {a: {upgrade_to: b}, b: {upgrade_to: a}}\n",
            [("upgrade_circle", "c.yaml:4: plans.a.upgrade_to"), ("upgrade_circle", "c.yaml:4: plans.b.upgrade_to")],
        ),
        (
            "credit: {usd: 1}\nactions: {go: {price: {credits: 1}, shows: One., repeat: "
            "{key: id, within: 1d, credits: 2}}}\nplans: {p: {kind: credits, top_up: true, overage: true}}\n",
            [
                ("repeat_costs_more", "c.yaml:5: actions.go.repeat.credits"),
                ("overage_never_applies", "c.yaml:6: plans.p.overage"),
            ],
        ),
        (
            "credit: {usd: 1}\nactions: {go: {price: {cost_plus: 0}, max_credits: 2, shows: At cost., repeat: "
            "{key: id, within: 1d, credits: 2}}}\nplans: {p: {kind: credits, top_up: true, overage: true}}\n",
            [],
        ),
        (
            "credit: {usd: 1}\nactions: {go: {price: {credits: 1}}}\nplans: {p: {}}\n",
            [("unused_action", "c.yaml:5: actions.go"), ("nothing_shown", "c.yaml:5: actions.go")],
        ),
        (
            "credit: {usd: 1}\nactions: {go: {price: {credits: 1}, shows: One credit.}}\n"
            "plans: {p: {kind: credits, top_up: true}}\n",
            [],
        ),
    ],
)
def test_what_is_probably_not_meant_is_warned_about_with_its_line(text, expected):
    assert advice(text) == expected


def test_a_plan_that_includes_every_class_of_tokens_is_not_warned_about():
    from tallystick.usage.meters import METERS

    classes = [name for name, meter in METERS.items() if meter.unit == "token" and name != "tokens_in"]
    assert advice(f"plans: {{p: {{prices: {{tokens_in: {{unit: 1, includes: [{', '.join(classes)}]}}}}}}}}\n") == []


def test_an_inherited_gap_is_warned_about_once():
    text = "plans:\n  a: {prices: {tokens_in: {unit: 1}}}\n  b: {extends: a, prices: {tokens_in: {unit: 2}}}\n"
    assert advice(text) == [("tokens_not_charged", "c.yaml:5: plans.a.prices")]


def test_the_price_list_says_what_each_plan_costs_and_what_actions_show():
    text = price_list(REFERENCE)
    for line in (
        "reference, version 2026-10-01, in force from 2026-10-01T00:00:00Z",
        "Usage in development, staging is metered and never billed.",
        "  tokens_in         graduated: up to 1,000,000,000 0.10 USD per 1,000,000; above that 0.07 USD per 1,000,000",
        "  tool_calls        10,000 free, then 0.80 USD per package of 1,000",
        "  minimum           20,000.00 USD a month, the base fee included",
        "  Find an email address  2 credits a search, whether or not an address turns up.",
        "  limit     tool_calls: at most 10 a day",
    ):
        assert line in text.splitlines()


def test_the_price_list_says_where_a_plan_differs_from_the_contract():
    text = "credit: {usd: 1}\nplans: {p: {kind: credits, top_up: true, overage: true, enforcement: MODE}}\n"
    shadow = price_list(load_contract(HEAD + text.replace("MODE", "shadow"), "c.yaml"))
    assert "  denials   only recorded for now; nothing is refused" in shadow.splitlines()
    assert "  overage   a run may be charged more than what was reserved for it, up to the action's most" in shadow
    assert "denials" not in price_list(load_contract(HEAD + text.replace("MODE", "enforce"), "c.yaml"))
    enforced = f"{HEAD}enforcement: shadow\n{text.replace('MODE', 'enforce')}"
    assert "  denials   enforced" in price_list(load_contract(enforced, "c.yaml")).splitlines()


def test_the_price_list_of_one_plan_leaves_the_others_out():
    text = price_list(REFERENCE, "pro")
    assert "Pro (pro)" in text
    assert "Enterprise (" not in text
    assert list(price_list_json(REFERENCE, "pro")["plans"]) == ["pro"]


def test_an_unknown_plan_is_answered_with_those_there_are():
    with pytest.raises(BadInput) as caught:
        price_list(REFERENCE, "gold")
    assert caught.value.code == "unknown_plan"
    assert "free, pro, enterprise" in caught.value.next_step
