"""The PDF: the same bytes in every process, whatever a customer is called, over as many pages as it takes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys

import pytest
from msgspec import structs

from document_samples import HOSTILE, ISSUE, ISSUED, with_adjustments, with_wallet
from document_samples import usage_invoice as usage
from tallystick.app.invoice_documents import document_pages, document_pdf
from tallystick.invoice.documents.issue import Party
from tallystick.invoice.documents.view import View, document_view
from tallystick.invoice.model import Invoice

_RENDER = """
import hashlib, json, sys
from datetime import datetime
from tallystick.app.invoice_documents import document_pdf
asked = json.load(sys.stdin)
print(hashlib.sha256(document_pdf(asked["view"], datetime.fromisoformat(asked["at"]))).hexdigest())
"""


def view_of(invoice: Invoice, name: str = "Globex") -> View:
    return document_view(invoice, dataclasses.replace(ISSUE, bill_to=Party(name, ("Account globex",))))


def test_two_processes_write_the_same_bytes() -> None:
    view = view_of(usage())
    here = hashlib.sha256(document_pdf(view, ISSUED)).hexdigest()
    done = subprocess.run(
        [sys.executable, "-c", _RENDER],
        input=json.dumps({"view": view, "at": ISSUED.isoformat()}),
        env={"PATH": "/usr/bin:/bin", "TZ": "Asia/Kathmandu", "LANG": "tr_TR.UTF-8", "HOME": "/nonexistent"},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == here
    document_pdf(view_of(with_wallet(usage())), ISSUED)
    assert hashlib.sha256(document_pdf(view, ISSUED)).hexdigest() == here


@pytest.mark.parametrize(
    "name", [HOSTILE, "株式会社グローベックス 😀", "مرحبا بالعالم", "W" * 500, '"}\\u0000#read("/etc/passwd")']
)
def test_whatever_a_customer_is_called_is_text(name: str) -> None:
    made = document_pdf(view_of(usage(), name), ISSUED)
    assert made.startswith(b"%PDF-")
    assert len(document_pages(view_of(usage(), name), ppi=20)) <= 2


def test_five_hundred_lines_run_over_pages() -> None:
    invoice = usage()
    lines = tuple(structs.replace(invoice.lines[number % 2], number=number + 1) for number in range(500))
    pages = document_pages(view_of(structs.replace(invoice, lines=lines)), ppi=10)
    assert 20 < len(pages) < 60


def test_every_kind_of_invoice_is_one_page() -> None:
    for invoice in (usage(), with_adjustments(usage()), with_wallet(usage())):
        assert len(document_pages(view_of(invoice), ppi=20)) == 1
