"""The gateway's configuration: its file, where the operator has one, and the keys that it names."""

from __future__ import annotations

import os
from pathlib import Path

from tallystick.app.settings import Settings
from tallystick.core.errors import BadInput
from tallystick.wire.config import Gateway, Provider, Tool, built_in
from tallystick.wire.gateway_file import read_gateway


def gateway_terms(settings: Settings) -> Gateway:
    """The providers and tools that there are.

    Raises:
        BadInput: `cannot_read`: the file cannot be read.
        Problems: `invalid_gateway_file`.
    """
    file = settings.gateway_file
    if file is None:
        return built_in()
    return read_gateway(_read(file, "TALLY_GATEWAY_FILE").decode(errors="replace"), str(file))


def check_gateway(settings: Settings) -> None:
    """Read all of the gateway's configuration, before anything is started.

    Raises:
        BadInput, Problems: as `gateway_terms` and `read_secret`.
    """
    terms = gateway_terms(settings)
    ones: list[Provider | Tool] = [*terms.providers.values(), *terms.tools.values()]
    for one in ones:
        read_secret(one.key_env, one.key_file)


def read_secret(variable: str | None, file: str | None) -> bytes | None:
    """A provider's key, from the environment or from a file; None where none is set.

    Raises:
        BadInput: `cannot_read`: the file cannot be read; `invalid_key`: it holds nothing that a header can carry.
    """
    if file is not None:
        value = _read(Path(file), "key_file").strip()
        where = f"key_file {file}"
    elif variable is not None:
        value = os.environ.get(variable, "").encode().strip()
        where = variable
        if not value:
            return None
    else:
        return None
    if not value or not all(0x21 <= byte <= 0x7E for byte in value):
        raise BadInput(
            "invalid_key",
            "it does not hold a provider's key: one line of letters, digits and signs",
            next_step="put the key there, and nothing else",
            where=where,
        )
    return value


def _read(file: Path, where: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInput(
            "cannot_read",
            f"{file} cannot be read: {(error.strerror or str(error)).lower()}",
            next_step="name a file that exists, and that this process may read",
            where=where,
        ) from None
