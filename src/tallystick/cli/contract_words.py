"""What the commands of contracts have in common: which contract is meant, and how it is named."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from tallystick.app.contract_files import read_contract
from tallystick.app.settings import Settings
from tallystick.contract.model import Contract

if TYPE_CHECKING:
    from tallystick.app.runtime import Runtime


def identity(contract: Contract) -> dict[str, str]:
    """Which contract it is, as JSON members."""
    return {"contract": contract.name, "version": contract.version, "sha256": contract.sha256}


def find_contract(reference: str) -> Contract:
    """The contract in that file, or the applied one of that name when there is no such file."""
    looks_like_a_file = reference == "-" or "/" in reference or reference.endswith((".yaml", ".yml"))
    # Of os.path, because it answers no, where Path raises, when no file can have such a name.
    if looks_like_a_file or os.path.isfile(reference):
        return read_contract(reference)
    name, _, version = reference.partition("@")
    with open_database() as runtime:
        from tallystick.app import contracts

        applied = contracts.find_contract(runtime, name, version or None)
    # It holds from when it was applied to hold, which may not be what its file says.
    return replace(applied.contract, effective_from=applied.version.effective_from)


def open_database() -> AbstractContextManager[Runtime]:
    """The running system, which the caller closes."""
    # Imported here, because files are checked, compared and quoted without a database.
    from tallystick.app.runtime import open_runtime

    return open_runtime(Settings())
