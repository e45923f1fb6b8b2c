"""Credits in money: given to an org, used up by its next invoices in their order, and in the books to the cent."""

from __future__ import annotations

from billing import billed_org, findings, money
from tallystick.app.invoice_credits import give_credit
from tallystick.app.runtime import Runtime


def test_a_credit_moves_nothing_until_an_invoice_uses_it(runtime: Runtime) -> None:
    (life,) = billed_org(runtime)
    done = give_credit(
        runtime, "globex", source="goodwill", amount_cents=300, reason="sorry", author="ann", request_id="k1"
    )
    assert done.as_dict()["left_usd"] == "3.00"
    assert findings(runtime) == []
    assert money(runtime) == {"receivable": 1000, "revenue": -1000}
