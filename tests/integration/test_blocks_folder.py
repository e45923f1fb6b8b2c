"""The folder of blocks is not where it was, or cannot be read: nothing is written beside it, and nothing breaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from invoicing import event, record
from tallystick.app.runtime import Runtime
from tallystick.app.seal import block_store, seal_once
from tallystick.app.verify import OpenLedger, verify_ledger
from tallystick.core.errors import Conflict


def moved(runtime: Runtime, blocks: Path) -> Runtime:
    return replace(runtime, settings=runtime.settings.model_copy(update={"blocks_dir": blocks}))


def test_nothing_is_sealed_into_a_folder_that_has_none_of_the_blocks(runtime: Runtime, tmp_path: Path) -> None:
    """A forgotten setting would divide the history between two folders."""
    record(runtime, [event("r1")])
    seal_once(runtime, everything=True)
    record(runtime, [event("r2")])
    other = moved(runtime, tmp_path / "elsewhere")
    with pytest.raises(Conflict) as caught:
        seal_once(other, everything=True)
    assert caught.value.code == "blocks_elsewhere"
    assert not list((tmp_path / "elsewhere").rglob("*.*"))
    assert verify_ledger(runtime).sound
    block_store(runtime.settings).root.rename(tmp_path / "moved")
    assert seal_once(moved(runtime, tmp_path / "moved"), everything=True).entries == 1


@pytest.mark.parametrize("which", ["*/block-000000000001.parquet", "*/*.people.parquet", "checkpoints/*.note"])
def test_a_file_that_cannot_be_read_is_named(runtime: Runtime, which: str) -> None:
    record(runtime, [event("r1")])
    seal_once(runtime, everything=True)
    root = block_store(runtime.settings).root
    (path,) = root.glob(which)
    path.rename(root / "aside")
    path.symlink_to("/proc/self/mem")  # a file that nobody can read from its beginning, not even root
    report = verify_ledger(OpenLedger(runtime.settings, runtime.database))
    assert str(path.relative_to(root)) in {one.file for one in report.findings.kept}
