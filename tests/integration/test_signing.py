"""One key signs for a ledger: made once, kept private, never taken for another's."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tallystick.app.runtime import Runtime
from tallystick.app.signing import known_keys, open_signing_key, rotate_signing_key, signing_key_path
from tallystick.core.errors import TallyError


def refusal(runtime: Runtime) -> str:
    with pytest.raises(TallyError) as caught:
        open_signing_key(runtime)
    for file in signing_key_path(runtime.settings).parent.iterdir():
        secret = file.read_text().split("+", maxsplit=4)[-1].strip()
        assert secret[:20] not in str(caught.value.as_dict())
    return caught.value.code


def test_the_key_is_made_once_and_for_its_owner_alone(runtime: Runtime) -> None:
    key = open_signing_key(runtime)
    path = signing_key_path(runtime.settings)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert open_signing_key(runtime) == key
    assert known_keys(runtime) == [key.public]
    assert key.name == runtime.settings.log_origin


def test_many_at_once_have_the_same_key(runtime: Runtime) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: open_signing_key(runtime), range(16)))
    assert len({key.seed for key in keys}) == 1
    assert len(known_keys(runtime)) == 1


def test_a_key_that_others_may_read_signs_nothing(runtime: Runtime) -> None:
    open_signing_key(runtime)
    signing_key_path(runtime.settings).chmod(0o640)
    assert refusal(runtime) == "signing_key_exposed"


def test_a_lost_key_is_not_replaced_unasked(runtime: Runtime) -> None:
    open_signing_key(runtime)
    path = signing_key_path(runtime.settings)
    path.rename(path.with_suffix(".away"))
    assert refusal(runtime) == "signing_key_missing"
    new = rotate_signing_key(runtime)
    assert open_signing_key(runtime) == new
    assert len(known_keys(runtime)) == 2


def test_a_key_of_another_ledger_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    path = signing_key_path(runtime.settings)
    open_signing_key(runtime)
    own = path.read_text()
    rotate_signing_key(runtime)
    rotated = path.read_text()
    stranger = rotated.split("+")
    path.write_text(own)
    assert open_signing_key(runtime).secret_text() + "\n" == own  # an earlier one of ours is ours
    from tallystick.ledger.notes import SigningKey

    path.write_text(SigningKey(runtime.settings.log_origin, os.urandom(32)).secret_text())
    assert refusal(runtime) == "signing_key_unknown"
    path.write_text("+".join(stranger)[:-9])
    assert refusal(runtime) == "invalid_key"


def test_a_log_keeps_its_name(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    open_signing_key(runtime)
    monkeypatch.setattr(runtime.settings, "log_origin", "example.com/renamed")
    assert refusal(runtime) == "log_origin_changed"
    with pytest.raises(TallyError) as caught:
        rotate_signing_key(runtime)
    assert caught.value.code == "log_origin_changed"
    monkeypatch.setattr(runtime.settings, "log_origin", "no good name")
    assert refusal(runtime) == "invalid_setting"
