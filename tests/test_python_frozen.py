"""Applications that PyInstaller has frozen with this package."""

import configparser
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness import Gunicorn, Venv, eventually, scrape
from harness.paths import EXPORTER, TESTS, built, wheel
from harness.process import children, clean_environment

PACKAGE = "gunicorn_prometheus_exporter"
# The interpreter's programs, which a frozen application does not have, and the hooks themselves.
NOT_FROZEN = (f"{PACKAGE}.__main__", f"{PACKAGE}.run_exporter", f"{PACKAGE}._pyinstaller")


class Frozen(Gunicorn):
    """A frozen program that is Gunicorn and the application."""

    def __init__(self, program: Path, environment: dict[str, str], worker_class: str) -> None:
        """`program` is what PyInstaller has made."""
        super().__init__("frozen:app", environment=environment, workers=2, worker_class=f"{PACKAGE}.{worker_class}")
        self.program = program

    def command(self) -> Sequence[str | Path]:
        """Gunicorn's words, for this program."""
        return [self.program, *super().command()[1:]]

    @property
    def pid(self) -> int:
        """The arbiter: a program in one file unpacks itself and starts the arbiter as its only child."""
        started = super().pid
        if self.program.parent.name == "frozen":
            return started
        below = children(started)
        assert below, "it has not unpacked itself yet"
        return below[0]


def freeze(directory: Path, *words: str, path: str) -> Path:
    """Returns the program; nothing names the package, as in an application whose worker class is a setting."""
    venv = Venv.frozen()
    cache = {"PYINSTALLER_CONFIG_DIR": str(directory / "cache"), "PATH": path}
    command: list[str | Path] = [
        venv.bin / "pyinstaller",
        "--noconfirm",
        "--clean",
        "--log-level=WARN",
        *words,
        TESTS / "apps" / "frozen.py",
    ]
    done = subprocess.run(
        command, cwd=directory, env=clean_environment(cache), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return directory / "dist" / "frozen"


def assert_metered(gunicorn: Frozen) -> None:
    assert gunicorn.get("/").status == 200
    eventually(lambda: scrape(gunicorn.metrics_url).value("shop_orders_total"), equals=1)
    assert scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total") == 1
    assert "nothing is metered" not in gunicorn.log


@pytest.mark.timeout(600)
def test_a_frozen_application_has_all_modules_and_runs_with_or_without_the_exporters_program(tmp_path: Path) -> None:
    """The program is used from beside the application, from PATH, and from the bundle."""
    without = {"PATH": "/usr/bin:/bin"}
    program = freeze(tmp_path, path=without["PATH"]) / "frozen"
    for worker in ("PrometheusWorker", "PrometheusThreadWorker"):
        with Frozen(program, without, worker) as gunicorn:
            for _ in range(3):
                assert gunicorn.get("/").body == b"ok\n"
            assert gunicorn.log.count("nothing is metered") == 1
            assert "put it beside the application, or into PATH" in gunicorn.log
            assert children(gunicorn.pid) == gunicorn.worker_pids()
            for word in ("ModuleNotFoundError", "Traceback"):
                assert word not in gunicorn.log

    beside = program.with_name(EXPORTER.name)
    beside.symlink_to(built(EXPORTER))
    with Frozen(program, without, "PrometheusWorker") as gunicorn:
        assert_metered(gunicorn)
    beside.unlink()
    with Frozen(program, {"PATH": f"{built(EXPORTER).parent}:{without['PATH']}"}, "PrometheusThreadWorker") as gunicorn:
        assert_metered(gunicorn)

    shutil.rmtree(tmp_path / "dist")
    program = freeze(tmp_path, "--onefile", path=f"{built(EXPORTER).parent}:{without['PATH']}")
    with Frozen(program, without, "PrometheusWorker") as gunicorn:
        assert_metered(gunicorn)
        # A program that a program starts as an exporter starts no other.
        gunicorn.stop()
    with Frozen(program, {**without, "GUNICORN_EXPORTER_PROCESS": "1"}, "PrometheusWorker") as gunicorn:
        assert gunicorn.get("/").status == 200
        assert gunicorn.log.count("nothing is metered") == 1


def test_the_wheel_has_an_entry_point_for_hooks_that_name_every_module() -> None:
    """PyInstaller sees no import by name, so a module that the hook forgot would be missing."""
    with zipfile.ZipFile(wheel()) as archive:
        names = [name for name in archive.namelist() if name.startswith(f"{PACKAGE}/")]
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        entry_points = configparser.ConfigParser()
        entry_points.read_string(archive.read(metadata).decode())
    assert entry_points["pyinstaller40"]["hook-dirs"] == f"{PACKAGE}._pyinstaller:hook_dirs"
    assert {f"{PACKAGE}/_pyinstaller/hook-{name}.py" for name in ("gunicorn", PACKAGE)} <= {*names}
    modules = {
        name.split(".")[0].replace("/", ".").removesuffix(".__init__")
        for name in names
        if name.endswith((".py", ".so")) and "/hook-" not in name
    }
    code = (
        "import runpy; from gunicorn_prometheus_exporter._pyinstaller import hook_dirs\n"
        "for name in ('gunicorn_prometheus_exporter', 'gunicorn'):\n"
        "    hook = runpy.run_path(f'{hook_dirs()[0]}/hook-{name}.py')\n"
        "    print(*hook['hiddenimports'], sep='\\n')\n"
    )
    hidden = {*Venv.frozen().run("-c", code).split()}
    assert {name for name in hidden if name.startswith(PACKAGE)} == modules.difference(NOT_FROZEN)
    assert f"{PACKAGE}._native" in hidden
    assert {"gunicorn.glogging", "gunicorn.workers.sync", "gunicorn.workers.gthread"} <= hidden
