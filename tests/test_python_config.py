"""`load_yaml_config`, the environment, and the names that older code imports."""

import signal
from pathlib import Path

import pytest

from harness import Gunicorn, RedisServer, Venv, eventually, scrape

YAML = """\
exporter:
  prometheus:
    metrics_port: 9091
    bind_address: "127.0.0.1"
  gunicorn:
    workers: 3
    timeout: 17
    keepalive: 5
"""
LOAD = "from gunicorn_prometheus_exporter import load_yaml_config\nload_yaml_config({path!r})\n"


def refused(tmp_path: Path, yaml: str | None, **environment: str) -> str:
    """Returns the error of `load_yaml_config` for a file."""
    path = tmp_path / "metrics.yml"
    if yaml is not None:
        path.write_text(yaml)
    program = (
        f"import os; os.environ.update({environment!r})\n"
        "from gunicorn_prometheus_exporter import load_yaml_config\n"
        "try:\n"
        f"    load_yaml_config({str(path)!r})\n"
        "except (ValueError, FileNotFoundError) as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    return Venv.default().run("-c", program).strip()


def test_errors_are_one_line_that_names_the_place(tmp_path: Path) -> None:
    """Errors that the original package had too keep their words."""
    path = tmp_path / "metrics.yml"
    assert refused(tmp_path, None) == f"FileNotFoundError Configuration file not found: {path}"
    assert "Configuration must contain 'exporter' section" in refused(tmp_path, "other: 1\n")
    assert "'exporter' section must be a dictionary" in refused(tmp_path, "exporter: 1\n")
    wrong_port = refused(tmp_path, YAML.replace("9091", "99999"))
    assert wrong_port.startswith(f"ConfigError {path}:3: exporter.prometheus.metrics_port")
    assert "99999" in wrong_port
    wrong_variable = refused(tmp_path, YAML, REDIS_PORT="many")
    assert "REDIS_PORT" in wrong_variable
    assert "many" in wrong_variable
    assert refused(tmp_path, YAML) == ""


@pytest.mark.parametrize(("own", "workers"), [("", 3), ("workers = 2\n", 2)], ids=["from-yaml", "from-the-file-itself"])
def test_gunicorn_settings_come_from_yaml_unless_the_configuration_sets_them(
    tmp_path: Path, own: str, workers: int
) -> None:
    """The environment takes precedence over the YAML file."""
    (tmp_path / "metrics.yml").write_text(YAML)
    config = LOAD.format(path=str(tmp_path / "metrics.yml")) + own

    class GunicornFromFile(Gunicorn):
        def command(self) -> list[str | Path]:
            return [word for word in super().command() if not str(word).startswith("--workers")]

    with GunicornFromFile(config=config, workers=workers) as gunicorn:
        page = "gunicorn_worker_state"
        eventually(lambda: len(scrape(gunicorn.metrics_url).samples(page, state="running")), equals=workers)


def test_settings_that_change_at_hup_restart_the_exporter() -> None:
    """Here the port changes; requests that were counted stay counted."""
    with Gunicorn() as gunicorn:
        path = gunicorn.directory / "metrics.yml"
        del gunicorn.environment["PROMETHEUS_METRICS_PORT"]
        gunicorn.stop()
        path.write_text(YAML.replace("9091", str(gunicorn.metrics_port)))
        gunicorn.config_path.write_text(LOAD.format(path=str(path)))
        gunicorn.start()
        gunicorn.get()
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total"), equals=1)
        other = Gunicorn().metrics_port
        path.write_text(YAML.replace("9091", str(other)))
        gunicorn.send(signal.SIGHUP)
        moved = f"http://127.0.0.1:{other}/metrics"
        eventually(lambda: scrape(moved).sum("gunicorn_worker_requests_total"), equals=1)
        with pytest.raises(OSError, match="refused"):
            scrape(gunicorn.metrics_url)


def test_with_the_sidecar_hook_the_instance_pushes_and_does_not_serve() -> None:
    """A standalone exporter serves, from Redis."""
    config = "from gunicorn_prometheus_exporter.hooks import redis_sidecar_when_ready as when_ready\n"
    with RedisServer() as redis, Gunicorn(config=config, redis=redis) as gunicorn:
        gunicorn.get()
        wanted = 'gunicorn_http_requests_total{endpoint="<other>",method="GET",status="200"} 1'
        eventually(lambda: wanted in str(redis.execute("METRICS.EXPOSE", "gunicorn:metrics")))
        with pytest.raises(OSError, match="refused"):
            scrape(gunicorn.metrics_url)


def test_names_that_older_code_imports_exist() -> None:
    """Each works as its caller expects."""
    program = (
        "from gunicorn_prometheus_exporter import *\n"
        "from gunicorn_prometheus_exporter.plugin import PrometheusWorker\n"
        "initialize_config(PROMETHEUS_METRICS_PORT=9200, REDIS_PASSWORD='secret')\n"
        "assert get_config().prometheus_metrics_port == 9200\n"
        "assert get_config().redis_password == 'secret'\n"
        "assert get_config().validate()\n"
        "assert get_config_manager().health_check()['healthy']\n"
        "try:\n"
        "    get_config_manager().update_config(REDIS_PORT='x')\n"
        "except ValueError:\n"
        "    pass\n"
        "assert get_config().redis_port == 6379\n"
        "assert not is_redis_enabled() and not setup_redis_metrics()\n"
        "cleanup_config()\n"
        "assert get_config().prometheus_metrics_port == 9091\n"
        "from prometheus_client import CollectorRegistry\n"
        "assert isinstance(registry, CollectorRegistry) and get_shared_registry() is registry\n"
    )
    Venv.gunicorn("23.0").run("-c", program)
