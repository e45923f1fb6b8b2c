"""Loading: exact values out, every error at once, each with its line and key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from tallystick.app.contract_files import reference_text
from tallystick.contract.loader import load_contract
from tallystick.contract.model import Contract, Limit, Price
from tallystick.contract.shapes import CostPlus, Graduated, Package, PerUnit, Tier, Volume
from tallystick.core.errors import BadInput, Problems

EXAMPLE = Path(__file__).resolve().parents[2] / ".." / "shared" / "contract.example.yaml"

HEAD = """\
contract: acme
version: "1"
effective_from: 2026-10-01T00:00:00Z
"""


def refused(text: str) -> list[BadInput]:
    with pytest.raises(Problems) as caught:
        load_contract(text, "c.yaml")
    assert caught.value.code == "invalid_contract"
    return list(caught.value.problems)


def price(text: str) -> Price:
    contract = load_contract(f"{HEAD}plans:\n  pro:\n    prices:\n      tokens_in: {text}\n", "c.yaml")
    return contract.plans["pro"].prices["tokens_in"]


def check_example(contract: Contract) -> None:
    assert contract.effective_from == datetime(2026, 10, 1, tzinfo=UTC)
    assert contract.credit is not None
    assert (contract.credit.name, contract.credit.usd) == ("credit", Fraction(1, 100))
    assert contract.meters["pages_reviewed"].unit == "page"
    tailor = contract.actions["tailor_document"]
    assert (tailor.credits, tailor.charge_on) == (5, ("success",))
    assert tailor.repeat is not None
    assert (tailor.repeat.key, tailor.repeat.within, tailor.repeat.credits) == ("document_id", timedelta(days=30), 0)
    research = contract.actions["research"]
    assert (research.credits, research.cost_plus, research.max_credits) == (None, Fraction(3, 10), 200)
    free, pro, enterprise = (contract.plans[name] for name in ("free", "pro", "enterprise"))
    assert free.limits[0] == Limit(("tokens_in", "tokens_out"), 1000, "day", "hard")
    assert pro.base_usd == 10
    assert pro.prices["tokens_in"] == Price(PerUnit(Fraction(1, 10), Fraction(1_000_000)))
    assert pro.limits[0].warn_at == (Fraction(1, 2), Fraction(4, 5), Fraction(1))
    assert enterprise.commit_usd == 5000
    million, billion = Fraction(10**6), Fraction(10**9)
    assert enterprise.prices["tokens_in"].shape == Graduated(
        (Tier(billion, Fraction(1, 10), million), Tier(None, Fraction(7, 100), million))
    )
    assert enterprise.prices["tokens_out"].shape == Volume(
        (Tier(billion / 2, Fraction(3, 10), million), Tier(None, Fraction(22, 100), million, Fraction(50)))
    )
    assert enterprise.prices["tool_calls"].shape == Package(Fraction(1000), Fraction(4, 5), Fraction(10_000))
    initech = contract.plans["enterprise-initech"]
    assert (initech.commit_usd, initech.extends, initech.title) == (20_000, "enterprise", "Enterprise")
    assert initech.prices["images_generated"].shape == PerUnit(Fraction(1, 100))
    assert initech.prices["tokens_in"] == enterprise.prices["tokens_in"]
    credits = contract.plans["credits"]
    assert (credits.kind, credits.included_credits, credits.top_up) == ("credits", 2500, True)
    assert contract.plans["discovery"].models.allow == ("*-mini", "*-haiku*", "*-flash*")
    assert contract.charges("production")
    assert not contract.charges("staging")
    assert contract.enforcement == "enforce"


def test_the_reference_contract_loads_with_exact_values():
    check_example(load_contract(reference_text(), "reference.yaml"))


def test_the_format_example_loads_with_exact_values():
    if not EXAMPLE.exists():
        pytest.skip("there is no shared folder beside the repository")
    example = load_contract(EXAMPLE.read_text(encoding="utf-8"), "contract.example.yaml")
    check_example(example)
    reference = load_contract(reference_text(), "reference.yaml")
    assert example.plans == reference.plans


def test_every_error_of_a_file_is_reported_at_once_with_its_line_and_key():
    text = """\
contract: acme
version: "1"
effective_from: soon
currency: EUR
plnas: {}
plans:
  pro:
    base: 9.99
    prices:
      tokens_inn: {unit: "0.10"}
      tokens_out: {unit: "-0.10", per: 3}
    upgrade_to: enterprize
  enterprise:
    extends: gold
"""
    found = [(problem.where, problem.code) for problem in refused(text)]
    assert found == [
        ("c.yaml:3: effective_from", "invalid_time"),
        ("c.yaml:4: currency", "unknown_value"),
        ("c.yaml:5: plnas", "unknown_key"),
        ("c.yaml:8: plans.pro.base", "invalid_decimal"),
        ("c.yaml:10: plans.pro.prices.tokens_inn", "unknown_meter"),
        ("c.yaml:11: plans.pro.prices.tokens_out.per", "invalid_per"),
        ("c.yaml:11: plans.pro.prices.tokens_out.unit", "negative_amount"),
        ("c.yaml:12: plans.pro.upgrade_to", "unknown_plan"),
        ("c.yaml:14: plans.enterprise.extends", "unknown_plan"),
    ]


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("plans: {p: {}}\nenviroments: {}", "'environments'"),
        ("plans: {pro: {pirces: {}}}", "'prices'"),
        ("plans: {pro: {prices: {tokens_inn: {unit: 1}}}}", "'tokens_in'"),
        ("plans: {pro: {}, max: {upgrade_to: prro}}", "'pro'"),
        ("plans: {pro: {kind: credit}}", "'credits'"),
    ],
)
def test_a_slip_of_the_pen_is_met_with_what_was_meant(wrong, meant):
    assert f"did you mean {meant}?" in str(refused(f"{HEAD}{wrong}\n")[0])


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ('{unit: "0.10"}', PerUnit(Fraction(1, 10))),
        ("{unit: 2, per: 1_000}", PerUnit(Fraction(2), Fraction(1000))),
        ('{package: {size: "0.5", price: 1}}', Package(Fraction(1, 2), Fraction(1))),
        ('{cost_plus: "0.30"}', CostPlus(Fraction(3, 10))),
        (
            '{volume: [{up_to: "1.5", flat: "3"}, {unit: "1"}]}',
            Volume((Tier(Fraction(3, 2), Fraction(0), flat_usd=Fraction(3)), Tier(None, Fraction(1)))),
        ),
    ],
)
def test_each_price_shape_is_read_exactly(text, shape):
    assert price(text).shape == shape


@pytest.mark.parametrize(
    ("text", "key", "code"),
    [
        ("{unit: 0.10}", ".unit", "invalid_decimal"),
        ("{unit: 1e3}", ".unit", "invalid_decimal"),
        ("{unit: .inf}", ".unit", "invalid_decimal"),
        ("{unit: 0x10}", ".unit", "invalid_decimal"),
        ("{unit: 010}", ".unit", "invalid_decimal"),
        ('{unit: "NaN"}', ".unit", "invalid_decimal"),
        ('{unit: "1,5"}', ".unit", "invalid_decimal"),
        ("{unit: 1" + "0" * 40 + "}", ".unit", "invalid_decimal"),
        ('{unit: "-1"}', ".unit", "negative_amount"),
        ("{unit: -1}", ".unit", "negative_amount"),
        ("{unit: }", ".unit", "wrong_type"),
        ("{unit: [1]}", ".unit", "wrong_type"),
        ('{unit: "1", per: 0}', ".per", "too_small"),
        ('{unit: "1", per: 3}', ".per", "invalid_per"),
        ('{unit: "1", per: 1500}', ".per", "invalid_per"),
        ('{unit: "1", per: "1000"}', ".per", "invalid_integer"),
        ('{unit: "1", package: {size: 1, price: "1"}}', "", "price_shape"),
        ("{per: 1000}", "", "price_shape"),
        ("{}", "", "price_shape"),
        ('"0.10"', "", "wrong_type"),
        ('{package: {size: 0, price: "1"}}', ".package.size", "too_small"),
        ('{package: {price: "1"}}', ".package", "missing_key"),
        ('{package: {size: 1, price: "1", free: -1}}', ".package.free", "negative_amount"),
        ("{graduated: []}", ".graduated", "invalid_tiers"),
        ('{graduated: [{up_to: 10, unit: "1"}]}', ".graduated", "last_tier_closed"),
        ('{volume: [{up_to: 10, unit: "1"}]}', ".volume", "last_tier_closed"),
        ('{graduated: [{unit: "1"}, {unit: "2"}]}', ".graduated", "invalid_tiers"),
        ('{graduated: [{up_to: 10, unit: "1"}, {up_to: 10, unit: "1"}, {unit: "2"}]}', ".graduated", "invalid_tiers"),
        ('{graduated: [{up_to: 10, unit: "1"}, {up_to: 9, unit: "1"}, {unit: "2"}]}', ".graduated", "invalid_tiers"),
        ('{graduated: [{up_to: 0, unit: "1"}, {unit: "2"}]}', ".graduated[0].up_to", "too_small"),
        ("{graduated: [{up_to: 10}, {unit: 2}]}", ".graduated[0]", "missing_key"),
        ('{cost_plus: "-0.1"}', ".cost_plus", "negative_amount"),
        ('{cost_plus: "0.1", per: 10}', ".per", "unknown_key"),
        ('{unit: "1", includes: [tokens]}', ".includes[0]", "unknown_meter"),
        ('{unit: "1", includes: [tokens_in]}', ".includes", "charged_twice"),
        ('{unit: "1", includes: [egress_bytes, egress_bytes]}', ".includes", "charged_twice"),
        ('{unit: "1", includes: [provider_cost_adjustment]}', ".includes[0]", "unknown_meter"),
    ],
)
def test_a_price_that_cannot_be_exact_or_meant_is_refused(text, key, code):
    with pytest.raises(Problems) as caught:
        price(text)
    assert [(problem.where, problem.code) for problem in caught.value.problems] == [
        (f"c.yaml:7: plans.pro.prices.tokens_in{key}", code)
    ]


def test_a_bare_decimal_is_answered_with_its_quoted_form():
    with pytest.raises(Problems, match=r'write it in quotes: "0\.10"'):
        price("{unit: 0.10}")


PLANS = [
    ("{base: -1}", "plans.p.base", "negative_amount"),
    ("{kind: free}", "plans.p.kind", "unknown_value"),
    ("{extends: p}", "plans.p.extends", "plan_cycle"),
    ("{upgrade_to: p}", "plans.p.upgrade_to", "unknown_plan"),
    ("{actions: [dance]}", "plans.p.actions", "unknown_action"),
    ("{models: {allow: [gpt 4]}}", "plans.p.models.allow[0]", "invalid_pattern"),
    ("{models: {allow: []}}", "plans.p.models.allow", "missing_value"),
    ("{included_credits: 5}", "plans.p.included_credits", "wrong_plan_kind"),
    ("{top_up: yes}", "plans.p.top_up", "wrong_type"),
    ('{top_up: "true"}', "plans.p.top_up", "wrong_type"),
    ("{kind: byok}", "plans.p.kind", "missing_key"),
    ("{prices: {egress_bytes: null}}", "plans.p.prices.egress_bytes", "missing_value"),
    ("{limits: [{meters: [], max: 1, per: day, kind: hard}]}", "plans.p.limits[0].meters", "missing_value"),
    ("{limits: [{meters: [nope], max: 1, per: day, kind: hard}]}", "plans.p.limits[0].meters[0]", "unknown_meter"),
    ("{limits: [{meters: [tokens_in], max: -1, per: day, kind: hard}]}", "plans.p.limits[0].max", "too_small"),
    ("{limits: [{meters: [tokens_in], max: 1.5, per: day, kind: hard}]}", "plans.p.limits[0].max", "invalid_integer"),
    ("{limits: [{meters: [tokens_in], max: 1, per: decade, kind: hard}]}", "plans.p.limits[0].per", "unknown_value"),
    (
        "{limits: [{meters: [tokens_in], max: 1, per: day, kind: soft, warn_at: [0.8, 0.5]}]}",
        "plans.p.limits[0].warn_at",
        "not_ascending",
    ),
    (
        "{limits: [{meters: [tokens_in], max: 1, per: day, kind: soft, warn_at: [0.5, 1.1]}]}",
        "plans.p.limits[0].warn_at[1]",
        "invalid_share",
    ),
]


@pytest.mark.parametrize(("plan", "path", "code"), PLANS)
def test_a_plan_that_cannot_hold_is_refused(plan, path, code):
    (problem,) = refused(f"{HEAD}plans:\n  p: {plan}\n")
    assert (problem.where, problem.code) == (f"c.yaml:5: {path}", code)


@pytest.mark.parametrize(
    ("lines", "path", "code"),
    [
        ("credit: {usd: 0}", "credit.usd", "too_small"),
        ("meters: {Pages: {unit: page}}", "meters.Pages", "invalid_name"),
        ("meters: {tokens_in: {unit: word}}", "meters.tokens_in", "meter_is_built_in"),
        ("meters: {provider_cost_adjustment: {unit: usd}}", "meters.provider_cost_adjustment", "invalid_name"),
        ("environments: {staging: {charge: no}}", "environments.staging.charge", "wrong_type"),
        ("enforcement: maybe", "enforcement", "unknown_value"),
        ("actions: {go: {price: {credits: 5}}}", "actions", "missing_key"),
        ("credit: {usd: 1}\nactions: {go: {}}", "actions.go", "missing_key"),
        ("credit: {usd: 1}\nactions: {go: {price: {}}}", "actions.go.price", "price_shape"),
        ("credit: {usd: 1}\nactions: {go: {price: {credits: 1.5}}}", "actions.go.price.credits", "invalid_integer"),
        ('credit: {usd: 1}\nactions: {go: {price: {cost_plus: "0.1"}}}', "actions.go", "missing_key"),
        (
            "credit: {usd: 1}\nactions: {go: {price: {credits: 5}, max_credits: 4}}",
            "actions.go.max_credits",
            "too_small",
        ),
        (
            "credit: {usd: 1}\nactions: {go: {price: {credits: 5}, charge_on: [maybe]}}",
            "actions.go.charge_on[0]",
            "unknown_value",
        ),
        (
            "credit: {usd: 1}\nactions: {go: {price: {credits: 5}, repeat: {key: id, within: soon, credits: 0}}}",
            "actions.go.repeat.within",
            "invalid_duration",
        ),
    ],
)
def test_a_part_that_cannot_hold_is_refused(lines, path, code):
    (problem,) = refused(f"{HEAD}plans: {{p: {{}}}}\n{lines}\n")
    line = 5 + lines.count("\n")
    assert (problem.where, problem.code) == (f"c.yaml:{line}: {path}", code)


@pytest.mark.parametrize(
    ("plans", "code"),
    [
        ("{a: {extends: b}, b: {extends: c}, c: {extends: a}}", "plan_cycle"),
        ("{a: {extends: b}, b: {extends: b}}", "plan_cycle"),
    ],
)
def test_plans_that_extend_each_other_in_a_circle_are_refused(plans, code):
    assert {problem.code for problem in refused(f"{HEAD}plans: {plans}\n")} == {code}


def test_a_meter_is_charged_once_also_through_inheritance():
    text = f"""{HEAD}plans:
  a: {{prices: {{tokens_out: {{unit: 1, includes: [reasoning_tokens]}}}}}}
  b: {{extends: a, prices: {{reasoning_tokens: {{unit: 2}}}}}}
  c: {{extends: a, prices: {{reasoning_tokens: {{unit: 2}}, tokens_out: null}}}}
"""
    (problem,) = refused(text)
    assert problem.code == "charged_twice"
    assert "plans.b.prices" in str(problem)


def test_a_credits_plan_needs_a_wallet_and_has_no_usage_prices():
    text = f"{HEAD}credit: {{usd: 1}}\nplans: {{p: {{kind: credits, prices: {{tool_calls: {{unit: 1}}}}}}}}\n"
    assert {problem.code for problem in refused(text)} == {"missing_key", "wrong_plan_kind"}


def test_holds_refunds_overage_and_shadow_are_read_and_have_defaults():
    credit = 'credit: {usd: "0.01"}\n'
    plans = "plans: {a: {kind: credits, top_up: true, overage: true, enforcement: shadow}, b: {extends: a}, c: {}}\n"
    silent = load_contract(f"{HEAD}{credit}{plans}", "c.yaml")
    assert (silent.hold_life, silent.refund_grace) == (timedelta(minutes=15), timedelta(days=7))
    assert [(plan.overage, plan.enforcement) for plan in silent.plans.values()] == [
        (True, "shadow"),
        (True, "shadow"),
        (False, None),
    ]
    said = load_contract(f"{HEAD}{credit}{plans}holds: {{life: 90s}}\nrefunds: {{grace: 2w}}\n", "c.yaml")
    assert (said.hold_life, said.refund_grace) == (timedelta(seconds=90), timedelta(days=14))


@pytest.mark.parametrize(
    ("lines", "path", "code"),
    [
        ("holds: {life: 8d}", "holds.life", "invalid_duration"),
        ("holds: {life: 0m}", "holds.life", "invalid_duration"),
        ("holds: {life: 15}", "holds.life", "invalid_duration"),
        ("holds: {}", "holds", "missing_key"),
        ("holds: {lief: 15m}", "holds.lief", "unknown_key"),
        ("refunds: {grace: 999999w}", "refunds.grace", "invalid_duration"),
        ("refunds: 7d", "refunds", "wrong_type"),
        ("credit: {usd: 1_000_001}", "credit.usd", "too_large"),
        ("actions: {a: {price: {credits: 1_000_000_000_001}}}", "actions.a.price.credits", "too_large"),
        ("actions: {a: {price: {cost_plus: 0}, max_credits: 1_000_000_000_001}}", "actions.a.max_credits", "too_large"),
    ],
)
def test_a_figure_that_cannot_be_meant_is_refused(lines, path, code):
    found = [
        (problem.where.split(": ")[1], problem.code) for problem in refused(f"{HEAD}plans: {{p: {{}}}}\n{lines}\n")
    ]
    assert (path, code) in found


@pytest.mark.parametrize(
    ("plan", "path", "code"),
    [
        ("{overage: true}", "plans.p.overage", "wrong_plan_kind"),
        ("{overage: yes}", "plans.p.overage", "wrong_type"),
        ("{enforcement: off}", "plans.p.enforcement", "unknown_value"),
    ],
)
def test_a_plans_overage_and_mode_are_checked(plan, path, code):
    (problem,) = refused(f"{HEAD}plans: {{p: {plan}}}\n")
    assert (problem.where, problem.code) == (f"c.yaml:4: {path}", code)


def test_a_price_taken_away_is_not_inherited():
    text = f"""{HEAD}plans:
  a: {{prices: {{tool_calls: {{unit: 1}}, egress_bytes: {{unit: 1}}}}}}
  b: {{extends: a, prices: {{tool_calls: null}}}}
"""
    assert list(load_contract(text, "c.yaml").plans["b"].prices) == ["egress_bytes"]


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        ("", "c.yaml:1", "empty"),
        ("# nothing\n", "c.yaml:1", "empty"),
        ("- a\n- b\n", "c.yaml:1", "holds a list"),
        ("hello\n", "c.yaml:1", "single value"),
        ("contract: a\n\tversion: b\n", "c.yaml:2", "tab"),
        ("contract: [a\nversion: b\n", "c.yaml:2", "not YAML"),
        ("a: b: c\n", "c.yaml:1", "not YAML"),
        ("a: 'b\n", "c.yaml:2", "begun on line 1"),
        ("contract: a\n---\ncontract: b\n", "c.yaml:1", "several documents"),
        ("plans: &all {}\n", "c.yaml:1", "anchors"),
        ("x: 1\nplans: *all\n", "c.yaml:2", "aliases"),
        ("contract: !!python/object:os.system a\n", "c.yaml:1", "tags"),
        ("? [a]\n: b\n", "c.yaml:1", "single word"),
        ("contract: a\nversion: \x00\n", "c.yaml:2", "does not belong in a text file"),
        ('contract: "\\ud800"\n', "c.yaml:1", "surrogate"),
        ("[" * 5000, "c.yaml:1", "nested deeper"),
        ("a: " + "[" + "1," * 30_000 + "]", "c.yaml:1", "more than 20,000 values"),
        ("#" * 300_000, "c.yaml:1", "characters"),
    ],
)
def test_what_is_no_contract_at_all_is_refused_with_its_reason(text, where, says):
    (problem,) = refused(text)
    assert problem.where == where
    assert says in problem.detail


def test_a_name_that_stands_twice_is_refused_with_both_lines():
    (problem,) = refused(f"{HEAD}plans: {{p: {{}}}}\nversion: '2'\n")
    assert (problem.where, problem.code) == ("c.yaml:5", "duplicate_key")
    assert "line 2" in problem.detail


def test_missing_parts_are_all_named():
    assert [problem.detail for problem in refused("currency: USD\n")] == [
        "'contract' is missing",
        "'effective_from' is missing",
        "'plans' is missing",
        "'version' is missing",
    ]


def test_the_hash_is_of_the_content_and_not_of_its_looks():
    one = f'{HEAD}plans:\n  p: {{base: "1", commit: 1_000}}  # a comment\n'
    same = 'plans:\n\n  p:\n    commit:   1000\n    base: "1"\n' + HEAD.replace('"1"', "'1'")
    other = one.replace('base: "1"', 'base: "2"')
    hashes = [load_contract(text, "c.yaml").sha256 for text in (one, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_hash_is_the_documented_one():
    import hashlib

    canonical = (
        '{"contract":"acme","effective_from":"2026-10-01T00:00:00Z","plans":{"p":{"base":"1","commit":1000,'
        '"title":"Prö","top_up":false}},"version":"1"}'
    )
    text = f'{HEAD}plans:\n  p: {{base: "1", commit: 1_000, title: Prö, top_up: false}}\n'
    assert load_contract(text, "c.yaml").sha256 == hashlib.sha256(canonical.encode()).hexdigest()


def test_crlf_and_a_byte_order_mark_are_read():
    text = "\ufeff" + f"{HEAD}plans: {{p: {{}}}}\n".replace("\n", "\r\n")
    assert load_contract(text, "c.yaml").name == "acme"
