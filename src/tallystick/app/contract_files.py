"""Contracts in files: read one, check it, and find the product's own reference contract."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tallystick.contract.advice import advise
from tallystick.contract.document import CHARACTERS_MAX, line_of, parse_document
from tallystick.contract.loader import load_contract
from tallystick.contract.model import Contract
from tallystick.core.errors import BadInput, NotFound

BYTES_MAX = 4 * CHARACTERS_MAX
REFERENCE_NAME = "reference.yaml"


@dataclass(frozen=True, slots=True)
class ContractWarning:
    """Something a contract says and probably does not mean; `where` is "FILE:LINE: key.path"."""

    where: str
    code: str
    sentence: str


def reference_text() -> str:
    """The text of the reference contract that comes with the product."""
    return files("tallystick.contract").joinpath(REFERENCE_NAME).read_text(encoding="utf-8")


def read_contract_text(path: str, what: str = "contract") -> str:
    """The text of a contract file; `-` is standard input.

    Args:
        what: what the file is one of, where it is no contract, for the errors.

    Raises:
        NotFound: `file_not_found`.
        BadInput: `unreadable_file`, `file_too_large` or `invalid_utf8`, which names the line.
    """
    raw = _read_bytes(path, what)
    if len(raw) > BYTES_MAX:
        raise BadInput(
            "file_too_large",
            f"the file has more than {BYTES_MAX:,} bytes, which is no file of a {what}",
            next_step=f"name a {what} file",
            where=path,
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadInput(
            "invalid_utf8",
            f"byte {error.start + 1:,} of the file is not UTF-8 text",
            next_step="save the file as UTF-8",
            where=f"{path}:{line}",
        ) from None


def read_contract(path: str) -> Contract:
    """The contract in that file.

    Raises:
        NotFound, BadInput: as `read_contract_text`.
        Problems: `invalid_contract`, with every error and its line.
    """
    return load_contract(read_contract_text(path), path)


def check_contract_text(text: str, name: str) -> tuple[Contract, tuple[ContractWarning, ...]]:
    """The contract, and everything about it that deserves a second look.

    Raises:
        Problems: `invalid_contract`, with every error and its line.
    """
    contract = load_contract(text, name)
    root, _ = parse_document(text, name)
    warnings = (
        ContractWarning(f"{name}:{line_of(root, advice.keys)}: {advice.path}", advice.code, advice.sentence)
        for advice in advise(contract)
    )
    return contract, tuple(warnings)


def _read_bytes(path: str, what: str) -> bytes:
    try:
        if path == "-":
            return sys.stdin.buffer.read(BYTES_MAX + 1)
        with Path(path).open("rb") as file:
            return file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        raise NotFound("file_not_found", "there is no such file", next_step=f"name a {what} file", where=path) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(
            "unreadable_file",
            f"the file cannot be read: {reason}",
            next_step=f"name a readable {what} file",
            where=path,
        ) from None
