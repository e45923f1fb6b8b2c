"""The files of an evidence bundle, as texts: what a customer gets to check a dispute offline. Pure."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from tallystick.dispute.words import explanation_text
from tallystick.invoice.tables import csv_table, text_cell

EVIDENCE: Final = "evidence.json"
TEXT: Final = "EXPLANATION.txt"
HTML: Final = "EXPLANATION.html"
DISPUTE: Final = "dispute.json"
INVOICE: Final = "invoice.json"
PROOF: Final = "proof.json"
ENTRIES: Final = "entries.json"
STEPS: Final = "steps.json"
REQUESTS: Final = "requests.csv"
RATES: Final = "rates.json"
CHECKPOINT: Final = "checkpoint.txt"
KEY: Final = "key.txt"
README: Final = "README.txt"
SUMS: Final = "SHA256SUMS"
CONTRACTS: Final = "contracts/"
FILES: Final = (
    README, EVIDENCE, TEXT, HTML, DISPUTE, INVOICE, PROOF, ENTRIES, STEPS, REQUESTS, RATES, CHECKPOINT, KEY, SUMS,
)  # fmt: skip
"""All that may be in a bundle, besides contracts."""

_COLUMNS = (
    "request_id", "seq", "time", "recorded_at", "feature", "environment", "provider", "model", "action", "outcome",
    "payer", "meters", "rate_version", "cost_status", "cost_usd", "recomputed_cost_usd", "charged_usd", "agrees",
    "leaf",
)  # fmt: skip
_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def contract_file(place: int, name: str, version: str) -> str:
    """The file of the contract at that place of the evidence's list: `contracts/1-acme-2026-10.yaml`."""
    return f"{CONTRACTS}{place}-{_NAME.sub('_', name)[:60]}-{_NAME.sub('_', version)[:60]}.yaml"


def sums_text(files: Mapping[str, bytes]) -> str:
    """The SHA-256 of every file but this one, a line each, as `sha256sum --check` reads them."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files) if name != SUMS)


def requests_csv(document: Mapping[str, Any]) -> str:
    """The disputed requests as CSV (RFC 4180); no cell is a formula to a spreadsheet."""
    return "".join(csv_table(_COLUMNS, (_row(one) for one in document["requests"])))


def _row(request: Mapping[str, Any]) -> Sequence[str]:
    texts = {
        **request,
        "meters": json.dumps(request["meters"], sort_keys=True, separators=(",", ":")),
        "agrees": "yes" if request["agrees"] else "no",
    }
    return [text_cell(None if texts[name] is None else str(texts[name])) for name in _COLUMNS]


def explanation_html(document: Mapping[str, Any]) -> str:
    """The evidence as a page of its own: the same sentences as the text."""
    title, *lines = explanation_text(document).rstrip("\n").split("\n")
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        "<style>body{font:16px/1.5 sans-serif;max-width:46em;margin:2em auto;padding:0 1em}"
        "h2{margin-top:1.6em}p{margin:.3em 0;overflow-wrap:anywhere}</style></head><body>\n"
        f"<h1>{html.escape(title)}</h1>\n{''.join(_paragraphs(lines))}</body></html>\n"
    )


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    before, in_parts = "", False
    for line in lines:
        if line and not before and in_parts and not line.startswith("  "):
            yield f"<h2>{html.escape(line)}</h2>\n"
        elif line:
            yield f"<p>{html.escape(line.strip())}</p>\n"
        in_parts = in_parts or bool(line)
        before = line


def readme_text(dispute_id: str, names: Iterable[str], missing: Iterable[str]) -> str:
    """What the bundle is, and how it is checked without the seller.

    Args:
        names: the files that it has.
        missing: what it has not, and why, a sentence each.
    """
    there = set(names)
    lines = [
        f"EVIDENCE BUNDLE OF DISPUTE {dispute_id}",
        "",
        "All that is needed to check the dispute offline, without the seller's database:",
        "",
        "    tally dispute check BUNDLE.zip --key KEY",
        "",
        "KEY is the seller's public key, one line; take it from where you had it before, not from this bundle.",
        "Without --key, the key in key.txt is used, and the answer says that nobody vouches for it.",
        "",
        *(f"{name:20}{what}" for name, what in _WHAT.items() if name in there),
    ]
    if any(name.startswith(CONTRACTS) for name in there):
        lines.append(f"{CONTRACTS:20}the texts of the contract versions that priced it")
    said = list(missing)
    if said:
        lines += ["", *said]
    lines += [
        "",
        "What is checked: the entries are those that the signed log commits to; the invoice follows from them and from",
        "the contracts' texts; each disputed request is one of those entries, and what it cost follows from its",
        "quantities and the rates; the explanations are those of the evidence; and the evidence is the one whose",
        "hash the ledger bears.",
        "",
        "There is no personal data in it. It says what your requests cost the seller: the proof cannot hold without.",
    ]
    return "\n".join(lines) + "\n"


_WHAT = {
    EVIDENCE: "what is disputed and what a replay found; its SHA-256 stands in the ledger",
    TEXT: "the same in plain words",
    HTML: "the same as a page",
    DISPUTE: "how the dispute stands, and its history",
    INVOICE: "the invoice",
    PROOF: "the proof of the invoice; also for: tally verify --proof proof.json",
    ENTRIES: "the disputed requests' entries with their proof",
    STEPS: "the dispute's own entries with their proof",
    REQUESTS: "the disputed requests, for a spreadsheet",
    RATES: "the rates that priced them",
    CHECKPOINT: "the signed checkpoint of the log",
    KEY: "the public key that signs it",
    SUMS: "the SHA-256 of each file; also for: sha256sum --check SHA256SUMS",
}
