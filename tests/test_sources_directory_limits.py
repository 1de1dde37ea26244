"""The metrics directory at its limits: devices, no room at all, many dead workers, and names that are relative."""

import os
import re
import signal
from pathlib import Path

import pytest

from harness import Gunicorn, Load, eventually, scrape
from harness.mounts import mounted_tmpfs

REQUESTS = "gunicorn_worker_requests_total"
# Ended workers that wait for a directory that cannot be written; those beyond are given up.
MAX_WAITING = 256

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can make device nodes and mount")


def environment(directory: Path, **others: str) -> dict[str, str]:
    """File mode."""
    return {"PROMETHEUS_MULTIPROC_DIR": str(directory), **others}


@needs_root
def test_a_device_node_is_neither_read_nor_opened(tmp_path: Path) -> None:
    """A tape rewinds when it is opened, and a terminal may wait for ever."""
    directory = tmp_path / "metrics"
    directory.mkdir(mode=0o700)
    try:
        for name, device in (
            ("counter_1.db", os.makedev(1, 5)),  # /dev/zero
            ("gauge_all_2.db", os.makedev(5, 0)),  # /dev/tty
            ("registry-0.snapshot", os.makedev(1, 5)),
            (f"{'3' * 32}-1.store", os.makedev(1, 5)),
        ):
            os.mknod(directory / name, 0o600 | 0o020000, device)
    except OSError as error:
        pytest.skip(f"this machine lets us make no device nodes: {error}")
    with Gunicorn(environment=environment(directory)) as gunicorn:
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=1.0)
        for name in ("counter_1.db", "gauge_all_2.db"):
            eventually(lambda name=name: f"{name} is left out" in gunicorn.log)  # type: ignore[misc]
            lines = [line for line in gunicorn.log.splitlines() if name in line]
            assert len(lines) == 1, lines
            assert "it is a device" in lines[0]


@needs_root
@pytest.mark.parametrize("sidecar", [False, True], ids=["alone", "sidecar"])
def test_a_file_system_without_room_for_one_copy_costs_nothing_but_the_files(tmp_path: Path, sidecar: bool) -> None:
    """The smallest that can be mounted, where no store fits in from the beginning."""
    with mounted_tmpfs(tmp_path / "metrics", "size=4k,mode=700") as directory:
        settings = environment(directory, **({"SIDECAR_MODE": "true"} if sidecar else {}))
        with Gunicorn(workers=2, environment=settings) as gunicorn:
            with Load([gunicorn.port]) as load:
                load.wait_for(50)
                for pid in gunicorn.worker_pids():
                    gunicorn.kill_worker(pid)
                load.wait_for(100)
            eventually(lambda: "No space left on device" in gunicorn.log)
            lines = [line for line in gunicorn.log.splitlines() if "No space left on device" in line]
            assert len(lines) <= 3, lines
            assert any("make room there" in line for line in lines), lines
            if not sidecar:
                eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=float(len(load.outcomes)))


def test_many_workers_that_die_without_a_directory_are_bounded_and_the_page_has_them_all(tmp_path: Path) -> None:
    """Beyond 256 their files are given up: counted, and logged."""
    path = tmp_path / "metrics"
    path.write_text("no directory")
    workers, requests, deaths = 12, 0, 0
    with Gunicorn(workers=workers, environment=environment(path)) as gunicorn:
        while deaths <= MAX_WAITING + workers:
            requests += gunicorn.get("/").status == 200
            victims = gunicorn.worker_pids()
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            deaths += len(victims)
            eventually(lambda v=victims: len(set(gunicorn.worker_pids()) - set(v)) == workers)  # type: ignore[misc]
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_restart_total"), equals=float(deaths))
        assert scrape(gunicorn.metrics_url).sum(REQUESTS) == requests
        files = sum(1 for _ in Path(f"/proc/{gunicorn.exporter_pid()}/fd").iterdir())
        assert files < MAX_WAITING + 100
        # Once there is a directory, what waits comes into it. What was given up does not, and that was logged.
        path.unlink()
        eventually(lambda: len(list(path.glob("*.store"))) > 0)
        given_up = sum(int(found) for found in re.findall(r"the metrics of (\d+) ended workers", gunicorn.log))
        assert given_up >= deaths - MAX_WAITING
        lost = requests - scrape(gunicorn.metrics_url).sum(REQUESTS)
        assert 0 <= lost <= given_up


@pytest.mark.parametrize("place", ["environment", "yaml", "preloaded"])
def test_a_relative_directory_is_that_of_the_start_though_the_application_changes_its_own(place: str) -> None:
    """By the environment or the file of `load_yaml_config`; in the workers or in the arbiter; after a HUP."""
    config = "import os\ndef post_worker_init(worker):\n    os.chdir('/')\n"
    with Gunicorn(workers=2, config="") as gunicorn:
        gunicorn.stop()
        where = gunicorn.directory / "metrics"
        elsewhere = gunicorn.directory / "elsewhere"
        elsewhere.mkdir()
        if place == "preloaded":
            # As an application does it while it is imported.
            config = f"import os\ndef on_starting(server):\n    os.chdir({str(elsewhere)!r})\n"
        if place != "yaml":
            gunicorn.environment["PROMETHEUS_MULTIPROC_DIR"] = "metrics"
        else:
            yaml = gunicorn.directory / "metrics.yml"
            yaml.write_text(
                "exporter:\n  prometheus:\n    multiproc_dir: metrics\n"
                f"    metrics_port: {gunicorn.metrics_port}\n    bind_address: 127.0.0.1\n"
            )
            config = (
                f"from gunicorn_prometheus_exporter import load_yaml_config\nload_yaml_config({str(yaml)!r})\n{config}"
            )
        gunicorn.config_path.write_text(config)
        gunicorn.start()
        assert gunicorn.get("/").status == 200
        eventually(lambda: len(list(where.glob("*.store"))), equals=4)
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=1.0)
        before = set(gunicorn.worker_pids())
        gunicorn.send(signal.SIGHUP)
        eventually(lambda: len(gunicorn.worker_pids()) == 2 and before.isdisjoint(gunicorn.worker_pids()))
        assert gunicorn.get("/").status == 200
        eventually(lambda: scrape(gunicorn.metrics_url).sum(REQUESTS), equals=2.0)
        assert list(elsewhere.iterdir()) == []
