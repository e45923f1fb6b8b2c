"""Files of proofs: written whole or not at all, read back compressed or not, checked without any database."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tallystick.core.errors import BadInput, Conflict, cannot_write
from tallystick.invoice.proof import ProofReport, check_proof, read_proof
from tallystick.ledger.notes import PublicKey, parse_public_key

PROOF_BYTES_MAX = 4 << 30
"""The largest proof that is read, unpacked: about five million entries."""
UNPACKED_FACTOR_MAX, UNPACKED_ALWAYS_BYTES = 100, 16 << 20
"""How far a packed proof may unpack: entries hold hashes, which do not pack, so that more is no proof."""
NOTE_BYTES_MAX = 64 << 10
_GZIP = b"\x1f\x8b"


def write_proof(
    pieces: Iterable[bytes], output: Path, progress: Callable[[int], object] = lambda _: None
) -> ProofReport:
    """Write a proof to a file (compressed when its name ends in `.gz`), check it, and only then give it its name.

    Raises:
        Conflict: `proof_broken`: what the ledger holds does not give a proof that holds.
        BadInput: `cannot_write`.
    """
    temporary = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            if output.name.endswith(".gz"):
                with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed:
                    packed.writelines(pieces)
            else:
                file.writelines(pieces)
        report = _expect_sound(check_file(temporary, progress=progress))
        temporary.replace(output)
    except OSError as error:
        raise cannot_write(output, error) from None
    finally:
        temporary.unlink(missing_ok=True)
    return report


def sound_proof(pieces: Iterable[bytes]) -> bytes:
    """A proof in memory, once it was checked.

    Raises:
        Conflict: `proof_broken`.
    """
    data = b"".join(pieces)
    _expect_sound(check_proof(read_proof(data)))
    return data


def check_file(
    path: Path,
    *,
    checkpoint: Path | None = None,
    keys: Sequence[str] = (),
    progress: Callable[[int], object] = lambda _: None,
) -> ProofReport:
    """Check the proof in a file, with nothing but that file, and a checkpoint and public keys where they are given.

    Raises:
        BadInput: `file_not_found`, `unreadable_file`, `file_too_large`; `invalid_proof`, `invalid_invoice_document`;
            `invalid_key`; `invalid_utf8`.
    """
    trusted = parse_keys(keys)
    kept = None if checkpoint is None else read_note(checkpoint)
    return check_proof(
        read_proof(_unpacked(_read(path, PROOF_BYTES_MAX), path)), keys=trusted, kept=kept, progress=progress
    )


def parse_keys(keys: Sequence[str]) -> list[PublicKey]:
    """Public keys from their lines.

    Raises:
        BadInput: `invalid_key`.
    """
    return [parse_public_key(one) for one in keys]


def read_note(path: Path) -> str:
    """The text of a checkpoint's file.

    Raises:
        BadInput: `file_not_found`, `unreadable_file`, `file_too_large`, `invalid_utf8`.
    """
    try:
        return _read(path, NOTE_BYTES_MAX).decode()
    except UnicodeDecodeError:
        raise BadInput(
            "invalid_utf8",
            f"{path} is not text",
            next_step="use a checkpoint as `tally checkpoint show` prints it",
            where=str(path),
        ) from None


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(bytes_max + 1)
        else:
            with path.open("rb") as file:
                data = file.read(bytes_max + 1)
    except FileNotFoundError:
        raise BadInput("file_not_found", "there is no such file", next_step="check its name", where=str(path)) from None
    except OSError as error:
        raise BadInput(
            "unreadable_file",
            f"the file cannot be read: {(error.strerror or str(error)).lower()}",
            next_step="check that it is a file and that you may read it",
            where=str(path),
        ) from None
    if len(data) > bytes_max:
        raise _too_large(path, bytes_max)
    return data


def _unpacked(data: bytes, path: Path) -> bytes:
    if not data.startswith(_GZIP):
        return data
    unpacker = zlib.decompressobj(wbits=31)
    bytes_max = min(PROOF_BYTES_MAX, max(UNPACKED_FACTOR_MAX * len(data), UNPACKED_ALWAYS_BYTES))
    try:
        unpacked = unpacker.decompress(data, bytes_max + 1)
    except zlib.error as error:
        raise BadInput(
            "invalid_proof",
            f"the file is not sound gzip: {error}",
            next_step="use the file as it was written",
            where=str(path),
        ) from None
    if len(unpacked) > bytes_max:
        raise _too_large(path, bytes_max)
    if not unpacker.eof or unpacker.unused_data:
        raise BadInput(
            "invalid_proof",
            "the gzip file is cut off, or something follows it",
            next_step="use the file as it was written",
            where=str(path),
        )
    return unpacked


def _too_large(path: Path, bytes_max: int) -> BadInput:
    return BadInput(
        "file_too_large",
        f"it has more than {bytes_max:,} bytes",
        next_step="check that it is the file you mean",
        where=str(path),
    )


def _expect_sound(report: ProofReport) -> ProofReport:
    if not report.valid:
        raise Conflict(
            "proof_broken",
            f"the ledger does not give a proof of {report.invoice_id} that holds: {report.problems[0]}",
            next_step="run `tally verify`: it names what was changed",
            where=report.invoice_id,
        )
    return report
