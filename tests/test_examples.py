"""The configurations of examples/ run as they stand, with the files that their first lines name."""

import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from harness import Gunicorn, RedisServer, Venv, eventually, own_network, scrape
from harness.paths import ROOT

EXAMPLES = ROOT / "examples"


class Example(NamedTuple):
    """One configuration."""

    app: str
    venv: str = "newest"
    #: Redis may only be on its default port, which the configuration names.
    needs_redis: bool = False


CASES = {
    "gunicorn_simple.conf.py": Example("app:app"),
    "gunicorn_thread_worker.conf.py": Example("app:app"),
    "gunicorn_redis_integration.conf.py": Example("app:app", needs_redis=True),
    "gunicorn_gevent_async.conf.py": Example("async_app:app"),
    "gunicorn_eventlet_async.conf.py": Example("async_app:app", venv="23.0"),
}


class AsTyped(Gunicorn):
    """`cd example; gunicorn --config NAME app:app`."""

    config_name = ""

    def command(self) -> list[str | Path]:
        """No option but the file."""
        return [
            self.venv.bin / "gunicorn",
            f"--config={EXAMPLES / self.config_name}",
            f"--chdir={ROOT / 'example'}",
            self.app,
        ]


def test_every_configuration_is_tried() -> None:
    """Each file has a case, and each name of the original README has a file."""
    assert {path.name for path in EXAMPLES.glob("*.conf.py")} == set(CASES)
    assert (ROOT / "example").resolve() == EXAMPLES
    for name, case in CASES.items():
        assert f"#   gunicorn --config {name} {case.app}\n" in (EXAMPLES / name).read_text()


@pytest.mark.parametrize("name", CASES)
def test_the_example_runs_as_it_stands(name: str, redis: RedisServer) -> None:
    """Requests are counted on the default port, by route."""
    case = CASES[name]
    with own_network():
        gunicorn = AsTyped(case.app, workers=2, venv=Venv.gunicorn(case.venv))
        gunicorn.config_name = name
        gunicorn.port, gunicorn.metrics_port = 8000, 9091
        if case.needs_redis:
            gunicorn.environment["GUNICORN_EXPORTER_REDIS_URL"] = redis.url
        else:
            gunicorn.environment.pop("REDIS_ENABLED", None)
        del gunicorn.environment["PROMETHEUS_METRICS_PORT"]
        with gunicorn:
            paths = ["/books/1", "/books/9", "/orders"] + (["/slow/0.01"] if case.app.startswith("async") else [])
            for path in paths:
                gunicorn.get(path)
            eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total"), equals=len(paths))
            page = scrape(gunicorn.metrics_url)
            assert page.sum("gunicorn_http_requests_total", endpoint="/books/<int:number>") == 2
            assert bool(page.sum("gunicorn_exporter_registry_info")) == case.needs_redis


def test_the_words_of_the_original_system_test_exist() -> None:
    """`system-test/Makefile` has them, and names tests that exist."""
    makefile = (ROOT / "system-test" / "Makefile").read_text()
    for word in ("quick-test", "system-test", "install", "clean"):
        assert f"\n{word}:" in makefile
    quick = makefile.split("QUICK := ")[1].splitlines()[0].split()
    assert all((ROOT / "tests" / name).is_file() for name in quick)
    for word in ("quick-test", "system-test", "install", "clean"):
        command: list[str | Path] = ["make", "--dry-run", "--directory", ROOT / "system-test", word]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0, word
