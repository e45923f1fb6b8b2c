"""Evidence bundles: the same bytes each time, checked without any database, and nothing can be changed unseen."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from accounts import call, end, give, hold
from billing import findings
from disputing import TIERED, dispute, dispute_requests, id_of, november, tiered_org, uphold
from invoicing import apply, event, record, subscribe
from leaving import let_go, open_shop_in_2025
from tallystick.app.dispute_bundle import check_bundle_file, make_bundle, read_bundle, zip_files
from tallystick.app.dispute_evidence import remake_evidence
from tallystick.app.disputes_shown import show_dispute
from tallystick.app.erase import erase_person
from tallystick.app.invoice_life import finalize_month
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.core.errors import BadInput
from tallystick.dispute.bundle import sums_text
from tallystick.dispute.check import check_bundle
from tallystick.ledger.notes import parse_public_key

HOSTILE = "=cmd|' /C calc'!A0"


@pytest.fixture
def bundles(runtime: Runtime) -> dict[str, bytes]:
    """Those of an invoice, of requests on it, and of requests on none yet; all sealed."""
    (life,) = tiered_org(runtime)
    record(runtime, [november(HOSTILE, meters={"tokens_in": 800}), november("n2", meters={"tokens_in": 9})])
    done = {
        "invoice": dispute(runtime, "d1", invoice_id=life.invoice_id, line=1, amount_usd="2"),
        "requests": dispute_requests(runtime, "c", "a", request_id="d2"),
        "open": dispute_requests(runtime, HOSTILE, request_id="d3"),
    }
    seal_once(runtime, everything=True)
    made = {name: make_bundle(runtime, "globex", id_of(one)) for name, one in done.items()}
    assert made == {name: make_bundle(runtime, "globex", id_of(one)) for name, one in done.items()}
    return made


def unzip(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == sorted(archive.namelist())
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        return {name: archive.read(name) for name in archive.namelist()}


def test_bundles_are_checked_with_nothing_but_the_file_and_a_key(bundles: dict[str, bytes], tmp_path: Path) -> None:
    for name, data in bundles.items():
        path = tmp_path / f"{name}.zip"
        path.write_bytes(data)
        key = unzip(data)["key.txt"].decode().strip()
        report = check_bundle_file(path, keys=[key])
        assert report.problems == []
        assert (report.proved, report.steps_proved, report.trusted_by) == (True, True, "key")
        other = key.replace(key[-6:-1], "AAAAA")
        with pytest.raises(BadInput):
            check_bundle_file(path, keys=["not a key"])
        with pytest.raises(BadInput) as damaged:
            check_bundle_file(path, keys=[other])
        assert damaged.value.code == "invalid_key"


def test_what_a_bundle_says_is_for_a_person_and_for_a_spreadsheet(bundles: dict[str, bytes]) -> None:
    files = unzip(bundles["open"])
    rows = list(csv.DictReader(io.StringIO(files["requests.csv"].decode(), newline="")))
    assert [row["request_id"] for row in rows] == [f"'{HOSTILE}"]
    assert rows[0]["charged_usd"] == "8"
    text = files["EXPLANATION.txt"].decode()
    assert "800 tokens_in at 0.15 USD per 1,000,000: 800 × 0.15 / 1,000,000 = 0.00012 USD." in text
    assert "2026-11 comes to 8.09 USD with the disputed requests and to 0.09 USD without them" in text
    assert "&#x27; /C calc" in files["EXPLANATION.html"].decode()
    assert "internal" not in json.loads(unzip(bundles["invoice"])["invoice.json"])
    for data in bundles.values():
        for name, content in unzip(data).items():
            for named in (event("a").user_id, event("a").session_id):
                assert named.encode() not in content, f"{name} names a person"


def changed(files: dict[str, bytes], name: str, old: str, new: str) -> dict[str, bytes]:
    text = files[name].decode()
    assert old in text, f"{name} does not say {old}"
    return {**files, name: text.replace(old, new).encode()}


CHANGES = [
    ("invoice", "evidence.json", '"amount_usd":"20.00"', '"amount_usd":"30.00"'),
    ("invoice", "evidence.json", "nothing was rounded", "all was rounded"),
    ("invoice", "invoice.json", "inv_", "inw_"),
    ("invoice", "proof.json", '"tokens_in":500', '"tokens_in":501'),
    ("invoice", "proof.json", "20.00", "21.00"),
    ("invoice", "steps.json", "that was not us", "that was us"),
    ("requests", "evidence.json", '"cost_usd":"0.000075"', '"cost_usd":"0.000076"'),
    ("requests", "evidence.json", '"quantity":500', '"quantity":600'),
    ("requests", "evidence.json", '"feature":"assistant"', '"feature":"other"'),
    ("requests", "rates.json", '"0.15"', '"0.16"'),
    ("requests", "contracts/1-acme-1.yaml", '"0.02"', '"0.03"'),
    ("requests", "EXPLANATION.txt", "500 tokens_in", "600 tokens_in"),
    ("requests", "EXPLANATION.html", "500 tokens_in", "600 tokens_in"),
    ("open", "requests.csv", "0.00012", "0.00013"),
    ("open", "entries.json", '"tokens_in":800', '"tokens_in":801'),
    ("open", "entries.json", '"globex"', '"initech"'),
    ("open", "steps.json", '"sealed_at', '"Sealed_at'),
]
"""Which bundle, which of its files, and what is written there instead of what."""


def test_no_file_of_a_bundle_can_be_changed_unseen(bundles: dict[str, bytes]) -> None:
    for which, name, old, new in CHANGES:
        files = unzip(bundles[which])
        assert check_bundle(files).valid
        report = check_bundle(changed(files, name, old, new))
        assert not report.valid, (name, old)
        assert report.problems
        # nor with its sum made again: what matters is borne out by the ledger, or by the evidence
        again = changed(files, name, old, new)
        assert not check_bundle({**again, "SHA256SUMS": sums_text(again).encode()}).valid, (name, old)


def test_a_byte_of_any_file_that_is_another_is_found_also_where_the_sums_are_made_again(
    bundles: dict[str, bytes],
) -> None:
    for data in bundles.values():
        files = unzip(data)
        assert [line.split("  ")[1] for line in files["SHA256SUMS"].decode().splitlines()] == sorted(
            files.keys() - {"SHA256SUMS"}
        )
        for name, content in files.items():
            for place in (0, len(content) // 2, len(content) - 1):
                other = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
                assert not check_bundle_or_refuse({**files, name: other}), (name, place)
    files = unzip(bundles["invoice"])
    forged = [
        changed(files, "invoice.json", '"total_usd": "20.00"', '"total_usd": "30.00"'),
        changed(files, "dispute.json", '"disputed_usd": "2.00"', '"disputed_usd": "3.00"'),
        {**files, "key.txt": b"other\n"},
        {**files, "checkpoint.txt": b"other\n"},
    ]
    for one in forged:
        assert check_bundle({**one, "SHA256SUMS": sums_text(one).encode()}).problems


def check_bundle_or_refuse(files: dict[str, bytes]) -> bool:
    """Whether a bundle is valid; one that cannot be read is not."""
    try:
        return check_bundle(files).valid
    except BadInput:
        return False


def test_files_that_are_missing_foreign_or_none_are_named(bundles: dict[str, bytes], tmp_path: Path) -> None:
    files = unzip(bundles["requests"])
    key = parse_public_key(files["key.txt"].decode().strip())
    for name in ("EXPLANATION.txt", "rates.json", "invoice.json", "contracts/1-acme-1.yaml"):
        assert not check_bundle({other: content for other, content in files.items() if other != name}).valid
    without = {name: content for name, content in files.items() if name not in ("proof.json", "steps.json")}
    assert not check_bundle(without).valid
    without["SHA256SUMS"] = sums_text(without).encode()
    assert check_bundle(without).valid
    assert not check_bundle(without, keys=[key]).valid
    assert not check_bundle({**files, "../evil": b""}).valid
    swapped = {**files, "evidence.json": unzip(bundles["open"])["evidence.json"]}
    assert not check_bundle(swapped).valid
    for content in (b"no zip", b"PK\x05\x06" + bytes(18), zip_files({"evidence.json": b"{}"}), bundles["open"][:-30]):
        path = tmp_path / "broken.zip"
        path.write_bytes(content)
        with pytest.raises(BadInput) as refused:
            check_bundle(read_bundle(path))
        assert refused.value.code == "invalid_bundle"
    with pytest.raises(BadInput) as gone:
        read_bundle(tmp_path / "gone.zip")
    assert gone.value.code == "file_not_found"


def test_before_anything_is_sealed_a_bundle_says_that_it_proves_nothing_yet(runtime: Runtime) -> None:
    (life,) = tiered_org(runtime)
    done = dispute(runtime, invoice_id=life.invoice_id)
    files = unzip(make_bundle(runtime, "globex", id_of(done)))
    assert b"not sealed in a signed log yet" in files["README.txt"]
    report = check_bundle(files)
    assert (report.valid, report.proved, report.steps_proved) == (True, False, False)


def test_evidence_of_an_open_month_is_the_same_whatever_plan_and_contract_come_after(runtime: Runtime) -> None:
    tiered_org(runtime)
    record(runtime, [november("n1", meters={"tokens_in": 800})])
    done = dispute_requests(runtime, "n1")
    subscribe(runtime, "globex", "enterprise", effective_from=datetime(2026, 11, 10, tzinfo=UTC))
    again = remake_evidence(runtime, "globex", done.shown.account)
    assert again.sha256 == done.as_dict()["evidence_sha256"]
    newer = TIERED.replace('version: "1"', 'version: "2"').replace('unit: "0.01"', 'unit: "0.05"')
    apply(runtime, newer.replace("effective_from: 2026-01-01", "effective_from: 2026-11-01"))
    later = replace(runtime, clock=lambda: datetime(2026, 12, 3, tzinfo=UTC))
    finalize_month(later, "2026-11", ["globex"])
    assert remake_evidence(later, "globex", done.shown.account).sha256 == again.sha256
    assert findings(later) == []


MARCH = datetime(2025, 3, 1, tzinfo=UTC)


def test_what_has_left_for_blocks_is_disputed_proved_and_given_back(runtime: Runtime) -> None:
    then = replace(runtime, clock=lambda: datetime(2025, 4, 3, tzinfo=UTC))
    apply(then, TIERED.replace("2026-01-01", "2025-01-01").replace("{late_window", "{late_window"))
    subscribe(then, "globex", "tiered", effective_from=MARCH)
    record(
        then,
        [event(one, time=MARCH + timedelta(days=at), meters={"tokens_in": 500}) for at, one in enumerate("abc")],
    )
    (result,) = finalize_month(then, "2025-03", ["globex"])
    assert result.life is not None
    first = dispute(then, invoice_id=result.life.invoice_id, amount_usd="1")
    open_shop_in_2025(then, acme="wallet")
    give(then, "100")
    for name in ("1", "2"):
        used = [call(f"e{name}", time="2025-04-02T12:00:00Z")]
        end(then, hold(then, f"a{name}", work_key=f"w{name}")["hold"]["hold_id"], events=used)
    let_go(then, datetime(2025, 4, 3, tzinfo=UTC))
    later = replace(then, clock=lambda: datetime(2025, 5, 25, tzinfo=UTC))
    assert remake_evidence(later, "globex", first.shown.account).sha256 == first.as_dict()["evidence_sha256"]
    requests = dispute_requests(later, "b", "c", request_id="d2")
    assert requests.as_dict()["disputed_usd"] == "15.00"
    credits = dispute_requests(later, "e1", "e2", request_id="d3", org_id="acme")
    assert credits.as_dict()["disputed_credits"] == "10"
    erase_person(later, "globex", event("a").user_id)
    seal_once(later, everything=True)
    for org_id, one in (("globex", first), ("globex", requests), ("acme", credits)):
        report = check_bundle(unzip(make_bundle(later, org_id, id_of(one))))
        assert (report.problems, report.proved, report.steps_proved) == ([], True, True)
    assert uphold(later, requests)["upheld_usd"] == "15.00"
    assert uphold(later, credits, "acme")["upheld_credits"] == "10"
    let_go(later, datetime(2025, 5, 25, tzinfo=UTC))
    last = replace(later, clock=lambda: datetime(2025, 8, 1, tzinfo=UTC))
    assert uphold(last, requests)["is_new"] is False
    assert show_dispute(last, "globex", id_of(requests)).as_dict()["request_ids"] == ["b", "c"]
    assert findings(last) == []
