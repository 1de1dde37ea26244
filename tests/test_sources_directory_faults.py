"""The metrics directory is damaged, full, attacked or missing: the application runs, and pages are right."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import Exporter, Gunicorn, Load, eventually, scrape
from harness.mounts import mounted_tmpfs
from harness.process import task

REQUESTS = "gunicorn_worker_requests_total"


@pytest.fixture(params=["disk", "tmpfs"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory on the file system of temporary files, and one in memory as the sidecars of deploy/ have it."""
    if request.param == "disk":
        yield tmp_path / "metrics"
    else:
        with mounted_tmpfs(tmp_path / "metrics", "size=16m,mode=700") as path:
            yield path


def environment(directory: Path, **others: str) -> dict[str, str]:
    """Returns the environment of file mode."""
    return {"PROMETHEUS_MULTIPROC_DIR": str(directory), **others}


def files(directory: Path) -> list[Path]:
    """Returns all files that our processes have made."""
    return sorted(path for path in directory.iterdir() if not path.name.endswith(".tmp"))


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def grow(path: Path) -> None:
    """Makes it larger, with a hole that takes no space."""
    os.truncate(path, 1 << 30)


def scribble(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xff" * 4096)


def punch(path: Path) -> None:
    size = str(max(4096, path.stat().st_size))
    subprocess.run(["fallocate", "--punch-hole", "--offset=0", f"--length={size}", path], check=True)


def remove(path: Path) -> None:
    path.unlink()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


DAMAGES = [truncate, cut, grow, scribble, punch, remove, pipe, link]


def damage_all(directory: Path, damage: Callable[[Path], None]) -> None:
    """Damages all files that exist at that moment; the exporter may replace a file meanwhile."""
    for path in files(directory):
        # The reader's lock is only a name; another test damages it.
        if path.name != "exporter.lock":
            try:
                damage(path)
            except (FileNotFoundError, FileExistsError):
                continue
            except subprocess.CalledProcessError:
                pytest.skip("this file system makes no holes")


def is_whole(directory: Path) -> bool:
    """Whether there are copies, and none is empty."""
    copies = list(directory.glob("*.store"))
    return len(copies) >= 4 and all(path.is_file() and not path.is_symlink() and path.stat().st_size for path in copies)


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.__name__ for damage in DAMAGES])
def test_no_damage_ends_a_process_or_changes_a_count(directory: Path, damage: Callable[[Path], None]) -> None:
    """The values are not in the files: the exporter writes all of them again."""
    with Gunicorn(workers=2, environment=environment(directory)) as gunicorn:
        eventually(lambda: is_whole(directory))
        pids = (gunicorn.worker_pids(), gunicorn.exporter_pid())
        with Load([gunicorn.port]) as load:
            load.wait_for(50)
            damage_all(directory, damage)
            load.wait_for(100)
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes)))
        damage_all(directory, damage)
        eventually(lambda: is_whole(directory))
        gunicorn.kill_worker(pids[0][0])
        eventually(lambda: len(gunicorn.worker_pids()), equals=2)
        assert scrape(gunicorn.metrics_url).sum(REQUESTS) == len(load.outcomes)
        assert gunicorn.exporter_pid() == pids[1]
        assert pids[0][1] in gunicorn.worker_pids()


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.__name__ for damage in DAMAGES])
def test_no_damage_ends_a_sidecar_or_changes_a_count(directory: Path, damage: Callable[[Path], None]) -> None:
    with (
        Exporter("sidecar", environment=environment(directory)) as sidecar,
        Gunicorn(workers=2, environment=environment(directory, SIDECAR_MODE="true")) as gunicorn,
    ):
        with Load([gunicorn.port]) as load:
            load.wait_for(50)
            eventually(lambda: scrape(sidecar.metrics_url).sum(REQUESTS) > 0)
            damage_all(directory, damage)
            load.wait_for(100)
        eventually(lambda: scrape(sidecar.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes)))
        exporter = gunicorn.exporter_pid()
        gunicorn.kill_worker(gunicorn.worker_pids()[0])
        damage_all(directory, damage)
        eventually(lambda: is_whole(directory) and len(gunicorn.worker_pids()) == 2)
        eventually(lambda: scrape(sidecar.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes)))
        assert gunicorn.exporter_pid() == exporter
        assert sidecar.process is not None
        assert sidecar.process.poll() is None


@contextlib.contextmanager
def failing_writes(pid: int, error: str) -> Iterator[None]:
    """Lets the system refuse what a process writes at a place in a file; skips the test if that is not allowed."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    words = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), "-e", f"inject=pwrite64:error={error}"]
    tracer = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: "TracerPid:\t0" not in Path(f"/proc/{pid}/status").read_text(), within=5)
    except AssertionError:
        tracer.kill()
        pytest.skip(f"this machine lets us trace no process: {tracer.communicate()[1]}")
    try:
        yield
    finally:
        tracer.terminate()
        tracer.communicate()


def test_a_quota_that_is_used_up_loses_only_the_files(directory: Path) -> None:
    """A user's share of a file system, as on NFS or a managed volume."""
    with Gunicorn(workers=2, environment=environment(directory)) as gunicorn:
        eventually(lambda: is_whole(directory))
        exporter = gunicorn.exporter_pid()
        with failing_writes(exporter, "EDQUOT"), Load([gunicorn.port]) as load:
            load.wait_for(50)
            for pid in gunicorn.worker_pids():
                gunicorn.kill_worker(pid)
            load.wait_for(100)
            eventually(lambda: "cannot be written (Disk quota exceeded" in gunicorn.log)
            eventually(lambda: errors(gunicorn) >= 1)
        eventually(lambda: counts_every_answer(load, gunicorn.metrics_url))
        lines = [line for line in gunicorn.log.splitlines() if "cannot be written (Disk quota" in line]
        assert len(lines) == 1, lines
        eventually(lambda: "can be written again" in gunicorn.log)
        assert gunicorn.exporter_pid() == exporter


@pytest.mark.parametrize("sidecars", [False, True], ids=["alone", "sidecar"])
def test_a_full_file_system_loses_only_the_files(tmp_path: Path, sidecars: bool) -> None:
    with mounted_tmpfs(tmp_path / "metrics", "size=2m,mode=700") as directory:
        settings = environment(directory, **({"SIDECAR_MODE": "true"} if sidecars else {}))
        with Gunicorn(workers=2, environment=settings) as gunicorn:
            eventually(lambda: is_whole(directory))
            filler = directory / "filler"
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError:
                    pass
            exporter = gunicorn.exporter_pid()
            with Load([gunicorn.port]) as load:
                load.wait_for(50)
                for pid in gunicorn.worker_pids():
                    gunicorn.kill_worker(pid)
                load.wait_for(100)
            eventually(lambda: "cannot be written (No space left on device" in gunicorn.log)
            if not sidecars:
                eventually(lambda: counts_every_answer(load, gunicorn.metrics_url))
            lines = [line for line in gunicorn.log.splitlines() if "No space left" in line]
            assert len(lines) <= 2, lines
            if not sidecars:
                assert errors(gunicorn) >= 1
            # A copy is whole or not there: what did not fit is in no file.
            assert all(path.stat().st_size > 0 for path in directory.glob("*.store"))
            filler.unlink()
            eventually(lambda: "can be written again" in gunicorn.log)
            assert gunicorn.exporter_pid() == exporter
            if sidecars:
                with Exporter("sidecar", environment=environment(directory)) as sidecar:
                    eventually(lambda: counts_every_answer(load, sidecar.metrics_url))


def counts_every_answer(load: Load, url: str) -> bool:
    """A request that its worker had only just accepted when it was killed may be counted or not."""
    return load.answered <= scrape(url).sum(REQUESTS) <= len(load.outcomes)


def plant(directory: Path, victim: Path) -> None:
    """Leaves what an attacker, or an accident, may leave there."""
    directory.mkdir(exist_ok=True)
    for name in ("counter_1.db", "gauge_all_2.db"):
        os.mkfifo(directory / name)
    for pid in (11, 12, 13):
        # It claims a gigabyte; the last file has that size, without taking space.
        (directory / f"counter_{pid}.db").write_bytes((1 << 30).to_bytes(4, "little") + bytes(4))
    os.truncate(directory / "counter_13.db", 1 << 30)
    for name in ("histogram_3.db", "registry-0.snapshot", "retired.json", f"{'0' * 32}-1.store"):
        (directory / name).symlink_to(victim)
    os.link(victim, directory / "registry-1.snapshot")
    os.link(victim, directory / "counter_4.db")
    (directory / "summary_5.db").mkdir()
    (directory / f"{'1' * 32}-1.store").mkdir()
    (directory / ("x" * 250 + ".db")).write_bytes(b"x")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(directory)
        listener.bind("counter_6.db")
        os.chdir(here)
    (directory / f"{'2' * 32}-1.store").write_bytes(bytes(100))


def resident(pid: int) -> int:
    """Returns the peak of resident bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def test_planted_files_hang_no_process_take_no_memory_and_change_no_target(directory: Path) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    # On the same file system, because of the hard links.
    victim = directory / "victim.txt"
    victim.write_text("kept")
    plant(directory, victim)
    with Gunicorn(environment=environment(directory)) as gunicorn:
        with Load([gunicorn.port]) as load:
            load.wait_for(20)
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes)))
        assert resident(gunicorn.exporter_pid()) < 100 << 20
        for name, why in (
            ("counter_1.db", "it is a named pipe"),
            ("counter_4.db", "hard links"),
            ("counter_6.db", "it is a socket"),
            ("counter_11.db", "it claims 1073741824 bytes and has 8"),
            ("counter_13.db", "allowed are 67108864"),
            ("histogram_3.db", "it is a symbolic link"),
            ("summary_5.db", "it is a directory"),
            (f"{'2' * 32}-1.store", "it is damaged"),
        ):
            eventually(lambda name=name: f"{name} is left out" in gunicorn.log or f"{name} in " in gunicorn.log)  # type: ignore[misc]
            lines = [line for line in gunicorn.log.splitlines() if name in line and why in line]
            assert len(lines) == 1, (name, lines)
    assert victim.read_text() == "kept"
    assert (directory / "counter_1.db").is_fifo()
    with Exporter("sidecar", environment=environment(directory)) as sidecar:
        eventually(
            lambda: scrape(sidecar.metrics_url).sum("gunicorn_http_requests_total"), equals=float(len(load.outcomes))
        )
        assert resident(sidecar.pid) < 100 << 20
    assert victim.read_text() == "kept"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_lock_that_is_no_file_is_one_line_and_its_target_is_kept(directory: Path, kind: str) -> None:
    """Once it is removed, the directory is used without a restart."""
    directory.mkdir(mode=0o700, exist_ok=True)
    victim, lock = directory.parent / "victim.txt", directory / "exporter.lock"
    victim.write_text("kept")
    if kind == "link":
        lock.symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    with Gunicorn(environment=environment(directory)) as gunicorn:
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=1.0)
        lines = [line for line in gunicorn.log.splitlines() if "exporter.lock in it cannot be used: it is a" in line]
        assert len(lines) == 1, gunicorn.log
        if kind == "folder":
            lock.rmdir()
        else:
            lock.unlink()
        eventually(lambda: list(directory.glob("*.store")) != [])
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=2.0)
    assert victim.read_text() == "kept"


def test_files_are_for_this_user_alone(directory: Path) -> None:
    """This holds for any umask, and in a directory that every user can write."""
    directory.mkdir(exist_ok=True)
    directory.chmod(0o1777)
    with Gunicorn(environment=environment(directory), arguments=["--umask=0"]) as gunicorn:
        eventually(lambda: len(list(directory.rglob("*.store"))), equals=3)
        assert gunicorn.get("/").status == 200
        home = directory / f"gunicorn-metrics-{os.getuid()}"
        assert home.stat().st_mode & 0o777 == 0o700
        assert list(directory.iterdir()) == [home]
        assert {path.stat().st_mode & 0o777 for path in home.iterdir()} == {0o600}


@pytest.mark.parametrize("what", ["a file", "below a file", "read-only", "removed", "emptied"])
def test_an_application_runs_without_its_directory(tmp_path: Path, what: str) -> None:
    """One line names the cause and what to do, and the page shows this instance."""
    path = tmp_path / "metrics"
    if what == "a file":
        path.write_text("")
    elif what == "below a file":
        path.write_text("")
        path /= "metrics"
    elif what == "read-only":
        with mounted_tmpfs(path, "size=1m,ro") as directory:
            _runs_without(directory, "Read-only file system")
        return
    else:
        with Gunicorn(environment=environment(path)) as gunicorn:
            eventually(lambda: list(path.glob("*.store")) != [])
            assert gunicorn.get("/").status == 200
            eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=1.0)
            if what == "emptied":
                # As a deployment does that empties it at each start.
                for file in path.iterdir():
                    file.unlink()
            else:
                shutil.rmtree(path)
            assert gunicorn.get("/").status == 200
            eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=2.0)
            eventually(lambda: len(list(path.glob("*.store"))), equals=3)
            exporter = gunicorn.exporter_pid()
            gunicorn.kill_worker(gunicorn.worker_pids()[0])
            eventually(lambda: gunicorn.get("/").status == 200)
            eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS) >= 3)
            assert gunicorn.exporter_pid() == exporter
        return
    _runs_without(path, "it is not a directory" if what == "a file" else "Not a directory")


def errors(gunicorn: Gunicorn) -> float:
    """Returns how often the directory could not be used, as the exporter counts it."""
    own = gunicorn.metrics_url.removesuffix("/metrics") + "/-/metrics"
    return scrape(own).sum("gunicorn_exporter_errors_total", where="directory")


@pytest.mark.parametrize("what", ["a link elsewhere", "a link to the same", "of another user", "of another, for all"])
def test_a_directory_that_is_exchanged_while_it_is_used_is_not_followed(tmp_path: Path, what: str) -> None:
    """A user that can rename it cannot choose where the exporter, perhaps as root, writes."""
    if "another" in what and os.getuid() != 0:
        pytest.skip("only root can give a directory to another user")
    path, away, other = tmp_path / "metrics", tmp_path / "away", tmp_path / "other"
    with Gunicorn(environment=environment(path)) as gunicorn:
        eventually(lambda: len(list(path.glob("*.store"))), equals=3)
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=1.0)
        other.mkdir(mode=0o755)
        if what == "of another, for all":
            other.chmod(0o777)
        path.rename(away)
        if "link" in what:
            path.symlink_to(other if what == "a link elsewhere" else away)
            cause = "it is a symbolic link now and was a directory before"
        else:
            os.chown(other, 12345, 12345)
            other.rename(path)
            other = path
            cause = f"it belongs to user 12345 now and belonged to user {os.getuid()} before"
        eventually(lambda: f"PROMETHEUS_MULTIPROC_DIR={path} cannot be used: {cause}" in gunicorn.log)
        gunicorn.kill_worker(gunicorn.worker_pids()[0])
        eventually(lambda: gunicorn.get("/").status == 200)
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS) >= 2)
        requests = scrape(gunicorn.metrics_url).sum(REQUESTS)
        assert list(other.iterdir()) == []
        assert gunicorn.log.count("cannot be used") == 1
        assert errors(gunicorn) >= 1
        path.unlink() if "link" in what else path.rmdir()
        away.rename(path)
        eventually(lambda: f"{path} can be used again" in gunicorn.log)
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=requests + 1)
        eventually(lambda: list(path.glob("*.store")) != [])


def test_a_link_in_place_of_the_subdirectory_is_named(tmp_path: Path) -> None:
    path, other = tmp_path / "metrics", tmp_path / "other"
    path.mkdir()
    path.chmod(0o1777)
    other.mkdir()
    home = path / f"gunicorn-metrics-{os.getuid()}"
    home.symlink_to(other)
    with Gunicorn(environment=environment(path)) as gunicorn:
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=1.0)
        lines = [line for line in gunicorn.log.splitlines() if "cannot be used" in line]
        assert len(lines) == 1, gunicorn.log
        assert f"{home} in it is a symbolic link, expected a directory: remove it" in lines[0]
        assert list(other.iterdir()) == []


def _runs_without(path: Path, cause: str) -> None:
    with Gunicorn(environment=environment(path)) as gunicorn:
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=1.0)
        lines = [line for line in gunicorn.log.splitlines() if "PROMETHEUS_MULTIPROC_DIR" in line]
        assert len(lines) == 1, gunicorn.log
        assert f"PROMETHEUS_MULTIPROC_DIR={path} cannot be used" in lines[0]
        assert cause.lower() in lines[0].lower(), lines[0]
        pid = gunicorn.exporter_pid()
        assert task(pid) is not None
