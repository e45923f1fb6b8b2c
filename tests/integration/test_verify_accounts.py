"""A check of the ledger follows every org's account, and finds what does not follow from its entries."""

from __future__ import annotations

import pytest

from account_operations import one_of_each, open_account
from invoicing import event
from journal_helpers import query, tamper
from tallystick.app.runtime import Runtime
from tallystick.app.verify import verify_ledger
from tallystick.app.verify_report import VerifyReport


def found(report: VerifyReport) -> list[str]:
    return [f"{one.check}: {one.sentence()}" for one in report.findings.kept]


def test_an_account_of_every_kind_of_operation_is_sound(runtime: Runtime) -> None:
    open_account(runtime, "globex", "acme")
    one_of_each(runtime)
    one_of_each(runtime, "acme")
    runtime.append([event("plain", "zeta")])
    report = verify_ledger(runtime)
    assert found(report) == []
    kinds = query(runtime, "select kind, count(*) from ledger_entries where org_id = 'acme' group by kind")
    print(kinds)
    assert report.operations == sum(number for kind, number in kinds if kind != "usage") * 2
