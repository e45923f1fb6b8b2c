"""Rate cards, contracts and subscriptions in the database: appended in order, never replaced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from journal_helpers import count, query, raw_event
from tallystick.app.cards import read_card_files
from tallystick.app.contract_files import reference_text
from tallystick.app.contracts import apply_contract, find_contract, list_contracts
from tallystick.app.ingest import ingest_events
from tallystick.app.orgs import all_orgs, find_org, set_subscription
from tallystick.app.rates_store import load_cards
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import BadInput, Conflict, NotFound, Problems

BEGIN = datetime(2026, 10, 1, tzinfo=UTC)


def contract_text(version: str = "2026-10-01", effective_from: str = "2026-10-01T00:00:00Z", plan: str = "pro") -> str:
    return f"""
contract: acme-ai
version: "{version}"
effective_from: {effective_from}
currency: USD
meters:
  pages_reviewed: {{unit: page}}
plans:
  {plan}:
    title: The plan
    base: "10"
"""


def test_the_bundled_cards_are_in_the_database_byte_for_byte_and_only_once(runtime: Runtime) -> None:
    bundled = set(read_card_files())
    assert {bytes(card) for (card,) in query(runtime, "select card from rate_versions")} == bundled
    load_cards(runtime.database, runtime.settings, runtime.clock())
    assert count(runtime, "rate_versions") == len(bundled)
    ordinals = [ordinal for (ordinal,) in query(runtime, "select ordinal from rate_versions order by ordinal")]
    assert ordinals == list(range(1, len(bundled) + 1))


def test_a_card_added_later_is_appended_and_prices_what_comes_after(runtime: Runtime, database_url: str) -> None:
    last = runtime.cards.versions[-1]
    known_at = "2026-11-30T00:00:00Z"
    lines = [
        f'{{"row":"card","format":1,"version":"own-1","known_at":"{known_at}","source":"tallystick","source_sha256":null,'
        f'"previous":"{last.sha256}"}}',
        '{"row":"model","provider":"openai","model":"own-model","match":{"equals":"own-model"}}',
        '{"row":"rate","provider":"openai","model":"own-model","meter":"tokens_in","per":1,"price_pico":7}',
    ]
    (before,) = ingest_events(runtime, [raw_event("before", model="own-model", meters={"tokens_in": 10})])
    assert before.receipt.cost_status == "unpriced"
    cards = runtime.settings.data_dir / "cards"
    cards.mkdir()
    (cards / "own-1.jsonl").write_text("\n".join(lines) + "\n")
    runtime.reload_cards()
    assert runtime.card.version == "own-1"
    (after,) = ingest_events(runtime, [raw_event("after", model="own-model", meters={"tokens_in": 10})])
    assert (after.receipt.cost_pico, after.receipt.rate_version) == (70, "own-1")
    # Another installation, without that file, reads it out of the database.
    with open_runtime(Settings(database_url=database_url, data_dir=cards / "none"), runtime.clock) as elsewhere:
        assert elsewhere.card.version == "own-1"
    assert query(runtime, "select price_pico from rate_rows where model = 'own-model'") == [(7,)]


def test_a_card_that_does_not_continue_the_chain_changes_nothing(runtime: Runtime) -> None:
    before = count(runtime, "rate_versions")
    cards = runtime.settings.data_dir / "cards"
    cards.mkdir()
    (cards / "fork.jsonl").write_text(
        '{"row":"card","format":1,"version":"fork","known_at":"2026-11-30T00:00:00Z","source":"x","source_sha256":null,'
        '"previous":"' + "0" * 64 + '"}\n'
    )
    runtime.reload_cards()
    assert count(runtime, "rate_versions") == before


def test_a_contract_is_applied_once_and_its_meters_are_known_from_then_on(runtime: Runtime) -> None:
    pages = raw_event(meters={"pages_reviewed": 3})
    assert ingest_events(runtime, [pages])[0].error.code == "unknown_meter"
    first = apply_contract(runtime, contract_text(), "acme.yaml")
    again = apply_contract(runtime, contract_text(), "acme.yaml")
    assert (first.is_new, again.is_new) == (True, False)
    assert first.version == again.version
    assert first.version.applied_at == runtime.clock()
    assert ingest_events(runtime, [pages])[0].status == "accepted"
    assert find_contract(runtime, "acme-ai").contract.plans.keys() == {"pro"}


def test_the_reference_contract_can_be_applied(runtime: Runtime) -> None:
    assert apply_contract(runtime, reference_text(), "reference.yaml").is_new


def test_an_applied_version_is_never_replaced_and_none_begins_before_another(runtime: Runtime) -> None:
    apply_contract(runtime, contract_text(), "acme.yaml")
    with pytest.raises(Conflict) as changed:
        apply_contract(runtime, contract_text(plan="other"), "acme.yaml")
    assert changed.value.code == "contract_version_exists"
    for begins in ("2026-10-01T00:00:00Z", "2026-09-01T00:00:00Z"):
        with pytest.raises(Conflict) as overlap:
            apply_contract(runtime, contract_text("next", begins), "acme.yaml")
        assert overlap.value.code == "contract_overlap"
    with pytest.raises(Conflict) as moved:
        apply_contract(runtime, contract_text(), "acme.yaml", BEGIN + timedelta(days=1))
    assert moved.value.code == "contract_version_exists"
    apply_contract(runtime, contract_text("next", "2026-11-01T00:00:00Z"), "acme.yaml")
    assert [one.version for one in list_contracts(runtime)] == ["2026-10-01", "next"]
    assert find_contract(runtime, "acme-ai").version.version == "next"
    assert find_contract(runtime, "acme-ai", "2026-10-01").version.effective_from == BEGIN


def test_a_broken_contract_and_an_unknown_one_leave_no_trace(runtime: Runtime) -> None:
    with pytest.raises(Problems):
        apply_contract(runtime, "contract: [", "broken.yaml")
    with pytest.raises(NotFound, match="there is no contract"):
        find_contract(runtime, "acme-ai")
    assert count(runtime, "contract_versions") == 0


def test_an_org_is_put_on_a_plan_and_the_record_keeps_the_earlier_ones(runtime: Runtime) -> None:
    apply_contract(runtime, reference_text(), "reference.yaml", datetime(2026, 9, 1, tzinfo=UTC))
    paris = {"contract": list_contracts(runtime)[0].contract, "time_zone": "Europe/Paris"}
    name = paris["contract"]
    first = set_subscription(
        runtime, "acme", contract=name, plan="free", time_zone="Europe/Paris", effective_from=BEGIN
    )
    same = set_subscription(runtime, "acme", contract=name, plan="free", effective_from=BEGIN)
    assert first == same
    later = set_subscription(runtime, "acme", contract=name, plan="pro", effective_from=BEGIN + timedelta(days=31))
    assert (later.ordinal, later.time_zone) == (2, "Europe/Paris")
    ingest_events(runtime, [raw_event(org_id="walk-in")])
    assert [(org.org_id, org.entries) for org in all_orgs(runtime)] == [("acme", 0), ("walk-in", 1)]
    found = find_org(runtime, "acme")
    assert found.subscription == later
    assert found.history == (first, later)
    with pytest.raises(NotFound):
        find_org(runtime, "nobody")


@pytest.mark.parametrize(
    ("change", "kind", "code"),
    [
        ({"contract": "other"}, NotFound, "unknown_contract"),
        ({"plan": "platinum"}, NotFound, "unknown_plan"),
        ({"time_zone": "Mars/Base"}, BadInput, "unknown_time_zone"),
        ({"effective_from": BEGIN - timedelta(days=1)}, BadInput, "contract_not_in_force"),
        ({"org_id": ""}, BadInput, "empty_text"),
        ({"org_id": "a\x00"}, BadInput, "invalid_text"),
    ],
)
def test_a_subscription_to_what_is_not_there_is_refused(
    runtime: Runtime, change: dict[str, object], kind: type[Exception], code: str
) -> None:
    apply_contract(runtime, contract_text(), "acme.yaml")
    wanted = {"org_id": "acme", "contract": "acme-ai", "plan": "pro", "effective_from": BEGIN, **change}
    with pytest.raises(kind) as caught:
        set_subscription(runtime, str(wanted.pop("org_id")), **wanted)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert count(runtime, "subscriptions") == 0


def test_an_orgs_time_zone_stays_so_that_no_hour_is_billed_twice(runtime: Runtime) -> None:
    apply_contract(runtime, contract_text(), "acme.yaml")
    set_subscription(runtime, "acme", contract="acme-ai", plan="pro", effective_from=BEGIN)
    with pytest.raises(Conflict) as caught:
        set_subscription(runtime, "acme", contract="acme-ai", plan="pro", time_zone="Asia/Tokyo")
    assert caught.value.code == "time_zone_fixed"
