"""Checking the files of an evidence bundle against each other: none was changed, and all are of one dispute. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tallystick.contract.loader import load_contract
from tallystick.dispute import bundle
from tallystick.dispute.words import explanation_text, summary_sentences
from tallystick.invoice.canonical import canonical_json
from tallystick.ledger.proof import Evidence


def check_names(files: Mapping[str, bytes], document: Mapping[str, Any]) -> None:
    """There is nothing in it but what may be, and the evidence is written as evidence is."""
    if canonical_json(document) != files[bundle.EVIDENCE]:
        raise ValueError("evidence.json is not written as evidence is: it was changed")
    for name in files:
        if name not in bundle.FILES and not name.startswith(bundle.CONTRACTS):
            raise ValueError(f"{name[:80]!r} is no file of a bundle")


def check_sums(files: Mapping[str, bytes]) -> None:
    """Every byte of every file is the one that was written: what nothing else here vouches for, too."""
    due, found = bundle.sums_text(files), files[bundle.SUMS].decode()
    if due != found:
        lines = {*due.split("\n")} ^ {*found.split("\n")}
        listed = ", ".join(sorted({line.partition("  ")[2] for line in lines})[:5])
        raise ValueError(f"not as {bundle.SUMS} says, so changed, added or taken away: {listed[:200]!r}")


def check_dispute(files: Mapping[str, bytes], document: Mapping[str, Any], evidence_sha256: str) -> None:
    """How the dispute stands is told of this dispute, with this evidence."""
    told, asked = json.loads(files[bundle.DISPUTE]), document["dispute"]
    for name in ("dispute_id", "org_id", "disputed_usd", "reason"):
        if told[name] != asked[name]:
            raise ValueError(f"dispute.json is of another dispute than the evidence: {name} differs")
    if told["evidence_sha256"] != evidence_sha256:
        raise ValueError("dispute.json names another evidence than the one in the bundle")


def check_signed(files: Mapping[str, bytes], evidences: Sequence[Evidence]) -> None:
    """The checkpoint and the key that lie beside the proofs are those of a proof."""
    if not evidences:
        return
    if all(files.get(bundle.CHECKPOINT) != one.checkpoint.encode() for one in evidences):
        raise ValueError("checkpoint.txt is not the checkpoint of the proofs")
    if any(files.get(bundle.KEY) != f"{one.key}\n".encode() for one in evidences):
        raise ValueError("key.txt is not the key of the proofs")


def check_words(files: Mapping[str, bytes], document: Mapping[str, Any]) -> None:
    """The sentences, the page and the table say what the evidence says."""
    if list(summary_sentences(document)) != document["summary"]:
        raise ValueError("the summary does not follow from the evidence")
    due = {
        bundle.TEXT: explanation_text(document),
        bundle.HTML: bundle.explanation_html(document),
        bundle.REQUESTS: bundle.requests_csv(document),
    }
    for name, text in due.items():
        if files.get(name) != text.encode():
            raise ValueError(f"{name} is not what the evidence says")


def check_contracts(files: Mapping[str, bytes], document: Mapping[str, Any]) -> None:
    """The contracts' texts are of the versions that the evidence names."""
    for place, one in enumerate(document["versions"]["contracts"], 1):
        name = bundle.contract_file(place, one["name"], one["version"])
        found = load_contract(files[name].decode(), name).sha256
        if found != one["sha256"]:
            raise ValueError(f"{name} is not version {one['version']} of {one['name']}: its hash is {found}")
