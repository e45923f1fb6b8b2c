"""The evidence bundle of a dispute: one ZIP that a customer can check offline; made here, and read here to be checked.

The same dispute over the same ledger gives the same bytes: names are sorted, times are fixed, and nothing in it says
when it was made. Only the proofs grow with the log: a bundle that is made later may have a later checkpoint.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec

from tallystick.app.dispute_evidence import stored_evidence
from tallystick.app.disputes_shown import ShownDispute, show_dispute
from tallystick.app.entries import stream_entries
from tallystick.app.invoices import find_invoice
from tallystick.app.pinned import stored_version
from tallystick.app.proof_files import parse_keys, read_note, sound_proof
from tallystick.app.proofs import proof_pieces, run_evidence
from tallystick.app.rates_view import row_dict
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, Conflict
from tallystick.core.struct_types import work_out
from tallystick.dispute import bundle
from tallystick.dispute.check import BundleReport, check_bundle
from tallystick.dispute.proved import FORMAT as ENTRIES_FORMAT
from tallystick.dispute.words import explanation_text
from tallystick.invoice.canonical import canonical_json
from tallystick.ledger.entry import entry_preimage
from tallystick.ledger.proof import Evidence

RUN_ENTRIES_MAX = 200_000
"""Disputed requests that are on no invoice are proved as one run of entries; farther apart they are not."""
BUNDLE_BYTES_MAX = 2 << 30
UNPACKED_BYTES_MAX = 4 << 30
_TIME = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a bundle: the first that a ZIP can have."""
_SAYS_NOTHING = frozenset({"invoice_not_sealed"})


def make_bundle(runtime: Runtime, org_id: str, dispute_id: str) -> bytes:
    """The bundle of a dispute, as the bytes of a ZIP.

    What is not sealed in a signed log yet is in it without a proof, and the bundle says so: seal, and make it again.

    Raises:
        BadInput: `invalid_id`; `missing_block`, `broken_block`.
        NotFound: `unknown_dispute`.
        Conflict: `evidence_pending`, `evidence_missing`; `proof_broken`, `entries_missing`.
        Unavailable: `database_unreachable`.
    """
    shown = show_dispute(runtime, org_id, dispute_id)
    text = stored_evidence(runtime, org_id, shown.account)
    document = json.loads(text)
    files: dict[str, bytes] = {
        bundle.EVIDENCE: text.encode(),
        bundle.TEXT: explanation_text(document).encode(),
        bundle.HTML: bundle.explanation_html(document).encode(),
        bundle.REQUESTS: bundle.requests_csv(document).encode(),
        bundle.DISPUTE: _json(shown.as_dict()),
        bundle.RATES: _json(_rates(runtime, document)),
        **_contract_texts(runtime, document),
    }
    missing: list[str] = []
    evidence: Evidence | None = None
    if document["invoice"] is not None:
        evidence = _add_invoice(runtime, document["invoice"]["invoice_id"], files, missing)
    elif document["requests"]:
        places = [seq for one in document["requests"] for seq in (one["seq"], one["correction_seq"]) if seq is not None]
        what = "the disputed requests"
        evidence = _add_run(runtime, org_id, min(places), max(places), bundle.ENTRIES, what, files, missing)
    steps = _steps(shown)
    if steps is not None:
        what = "the dispute's own entries"
        evidence = _add_run(runtime, org_id, *steps, bundle.STEPS, what, files, missing) or evidence
    if evidence is not None:
        files[bundle.CHECKPOINT] = evidence.checkpoint.encode()
        files[bundle.KEY] = f"{evidence.key}\n".encode()
    files[bundle.README] = bundle.readme_text(dispute_id, [*files, bundle.README, bundle.SUMS], missing).encode()
    files[bundle.SUMS] = bundle.sums_text(files).encode()
    return zip_files(files)


def bundle_name(org_id: str, dispute_id: str) -> str:
    """What the file of a bundle is called."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", org_id)[:60].lstrip(".") or "org"
    return f"dispute-{safe}-{dispute_id}.zip"


def zip_files(files: Mapping[str, bytes]) -> bytes:
    """A ZIP of these files, the same bytes however often it is made."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return packed.getvalue()


def check_bundle_file(path: Path, *, keys: Sequence[str] = (), checkpoint: Path | None = None) -> BundleReport:
    """Check the bundle in a file, with nothing but that file, and a checkpoint and public keys where they are given.

    Raises:
        BadInput: `file_not_found`, `unreadable_file`, `file_too_large`, `invalid_bundle`; `invalid_key`,
            `invalid_note`, `invalid_checkpoint`, `invalid_utf8`.
    """
    trusted = parse_keys(keys)
    kept = None if checkpoint is None else read_note(checkpoint)
    return check_bundle(read_bundle(path), keys=trusted, kept=kept)


def read_bundle(path: Path) -> dict[str, bytes]:
    """The files of a bundle by name.

    Raises:
        BadInput: `file_not_found`, `unreadable_file`, `file_too_large`, `invalid_bundle`.
    """
    try:
        size = path.stat().st_size
        if size > BUNDLE_BYTES_MAX:
            raise _refusal(path, "file_too_large", f"it has more than {BUNDLE_BYTES_MAX:,} bytes")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [one.filename for one in entries]
            if len(names) != len(set(names)):
                raise _refusal(path, "invalid_bundle", "a file is in it twice")
            if sum(one.file_size for one in entries) > UNPACKED_BYTES_MAX:
                raise _refusal(path, "file_too_large", f"it unpacks to more than {UNPACKED_BYTES_MAX:,} bytes")
            return {one.filename: archive.read(one) for one in entries}
    except FileNotFoundError:
        raise _refusal(path, "file_not_found", "there is no such file") from None
    except OSError as error:
        raise _refusal(
            path, "unreadable_file", f"it cannot be read: {(error.strerror or str(error)).lower()}"
        ) from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise _refusal(path, "invalid_bundle", f"it is no sound ZIP: {error}") from None


def _refusal(path: Path, code: str, detail: str) -> BadInput:
    next_step = "use the file as it was written, or have it made again: tally dispute bundle ID"
    return BadInput(code, detail, next_step=next_step, where=str(path))


def _add_invoice(runtime: Runtime, invoice_id: str, files: dict[str, bytes], missing: list[str]) -> Evidence | None:
    document = json.loads(find_invoice(runtime, invoice_id).document)
    document.pop("internal", None)
    files[bundle.INVOICE] = _json(document)
    try:
        files[bundle.PROOF] = sound_proof(proof_pieces(runtime, invoice_id))
    except Conflict as error:
        if error.code not in _SAYS_NOTHING:
            raise
        missing.append("The invoice's entries are not sealed in a signed log yet: have the bundle made again later.")
        return None
    return msgspec.json.decode(files[bundle.PROOF], type=_WithEvidence).evidence


class _WithEvidence(msgspec.Struct):
    """What is of interest of a proof that was made here."""

    evidence: Evidence | None


work_out(_WithEvidence)


def _steps(shown: ShownDispute) -> tuple[int, int] | None:
    """The places of the dispute's opening and of the entry that attached its evidence, where they are near."""
    last = shown.account.evidence_seq
    near = last is not None and last - shown.account.seq < RUN_ENTRIES_MAX
    return (shown.account.seq, last) if near and last is not None else None


def _add_run(
    runtime: Runtime,
    org_id: str,
    first: int,
    last: int,
    name: str,
    what: str,
    files: dict[str, bytes],
    missing: list[str],
) -> Evidence | None:
    if last - first >= RUN_ENTRIES_MAX:
        missing.append(f"{what.capitalize()} lie too far apart to be proved together.")
        return None
    evidence = run_evidence(runtime, org_id, first, last)
    if evidence is None:
        missing.append(f"{what.capitalize()} are not sealed in a signed log yet: have the bundle made again later.")
        return None
    entries = b",\n".join(entry_preimage(entry) for entry in stream_entries(runtime, org_id, first, last))
    head = json.dumps({"format": ENTRIES_FORMAT, "org_id": org_id}, ensure_ascii=False)[:-1]
    files[name] = f'{head}, "entries": [\n'.encode() + entries + b'\n],\n"evidence": '
    files[name] += msgspec.json.encode(evidence) + b"}\n"
    return evidence


def _contract_texts(runtime: Runtime, document: Mapping[str, Any]) -> dict[str, bytes]:
    found = {}
    for place, one in enumerate(document["versions"]["contracts"], 1):
        with runtime.database.operator() as connection:
            version = stored_version(connection, one["name"], one["version"])
        found[bundle.contract_file(place, one["name"], one["version"])] = version.source_text.encode()
    return found


def _rates(runtime: Runtime, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rates of the models of the disputed requests through time, each card and model once."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for request in document["requests"]:
        models = {request["model"], *(line["model"] for line in request["cost_lines"] if line["model"])}
        for model in sorted(models):
            key = (request["rate_version"], request["provider"] or "", model)
            if key in found:
                continue
            card = runtime.cards.at(request["rate_version"])
            resolved = card.resolve(request["provider"], model)
            rows = [] if resolved is None else [row_dict(*one) for one in card.effective(resolved)]
            found[key] = {
                "rate_version": request["rate_version"],
                "provider": request["provider"],
                "model": model,
                "rows": rows,
            }
    return [found[key] for key in sorted(found)]


def _json(value: Any) -> bytes:
    """For a person and a program: canonical, but for its lines."""
    return json.dumps(json.loads(canonical_json(value)), ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"
