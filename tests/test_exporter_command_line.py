"""The program's commands: help, version, check-config, health, and its messages about wrong settings."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from harness import Exporter, RedisServer
from harness.paths import EXPORTER, built
from harness.ports import free_port
from harness.process import clean_environment


def run(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the program to its end."""
    return subprocess.run(
        [str(built(EXPORTER)), *arguments],
        env=clean_environment(environment or {}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def refused(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Returns the one line of the error about wrong settings."""
    ended = run(*arguments, environment=environment)
    assert (ended.returncode, ended.stdout) == (64, ""), ended
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr.strip().removeprefix("error: ")


def test_help_names_every_command() -> None:
    ended = run("--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    for word in ("serve", "standalone", "health", "check-config", "--config", "--port", "--bind", "--redis-url"):
        assert word in ended.stdout


def test_version() -> None:
    assert run("--version").stdout == "gunicorn-prometheus-exporter 1.0.0\n"


def test_an_unknown_command_is_refused() -> None:
    assert run("sidekick").returncode == 64


def test_check_config_shows_the_settings_in_force_without_passwords(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text(
        "exporter:\n  prometheus:\n    metrics_port: 9100\n    bind_address: '::1'\n"
        "  redis:\n    enabled: true\n    password: 'hush-1'\n  flush_intervall: 2\n"
    )
    ended = run(
        "check-config",
        "--config",
        str(file),
        "--port",
        "9200",
        environment={"PROMETHEUS_METRICS_PORT": "9150", "GUNICORN_EXPORTER_REDIS_URL": "redis://:hush-2@cache/1"},
    )
    assert ended.returncode == 0, ended
    assert ended.stdout.splitlines()[1] == "exporter:"
    assert "    # --port\n    metrics_port: 9200\n" in ended.stdout
    assert f'    # {file}:4: exporter.prometheus.bind_address\n    bind_address: "::1"\n' in ended.stdout
    assert '    # GUNICORN_EXPORTER_REDIS_URL\n    url: "<hidden>"\n' in ended.stdout
    assert "db_files: true\n  flush_interval: 1.0\n" in ended.stdout
    assert "<hidden>" in ended.stdout
    assert "hush" not in ended.stdout + ended.stderr
    warning = f"{file}:8: unknown key exporter.flush_intervall, the nearest known is exporter.flush_interval"
    assert warning in ended.stderr


def test_check_config_can_be_strict(tmp_path: Path) -> None:
    """A misspelled key or variable is an error then, and nothing is printed."""
    file = tmp_path / "exporter.yml"
    file.write_text("exporter:\n  redis:\n    prot: 6379\n")
    said = refused("check-config", "--strict", "--config", str(file), environment={"REDIS_HOSTT": "cache"})
    assert said == (
        f"{file}:3: unknown key exporter.redis.prot, the nearest known is exporter.redis.port; "
        "unknown variable REDIS_HOSTT, the nearest known is REDIS_HOST: with --strict, each setting must be known"
    )
    assert run("check-config", "--strict").returncode == 0


def test_a_value_that_follows_from_another_setting_is_no_default() -> None:
    shown = run("check-config", environment={"GUNICORN_EXPORTER_REDIS_URL": "redis://cache"}).stdout
    assert "# follows from other settings\n    enabled: true\n" in shown
    assert "# follows from other settings\n    endpoint_limit: 0\n" in shown


def test_wrong_settings_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("exporter:\n  redis:\n    port: six\n")
    assert refused("check-config", "--config", str(file)) == (
        f'{file}:3: exporter.redis.port is "six", allowed is a whole number from 1 to 65535'
    )
    assert refused("check-config", environment={"YAML_CONFIG_PATH": str(tmp_path)}) == f"Path is not a file: {tmp_path}"
    missing = tmp_path / "none.yml"
    assert refused("--config", str(missing)) == f"Configuration file not found: {missing}"
    assert refused("standalone", "--port", "0") == '--port is "0", allowed is a whole number from 1 to 65535'
    assert refused("standalone", "--redis-url", "http://:hush@x") == (
        "--redis-url is (not shown), allowed is redis://, rediss:// or unix:// and an address"
    )
    assert refused("standalone", environment={"GUNICORN_EXPORTER_PROMETHEUS_SCOPE": "instance"}) == (
        "exporter.prometheus.scope is instance, allowed for an exporter that stands alone is shared"
    )


def test_health_asks_a_running_exporter_and_starts_none() -> None:
    with RedisServer() as redis, Exporter(redis=redis) as exporter:
        healthy = run("health", "--port", str(exporter.port), environment={"PROMETHEUS_BIND_ADDRESS": "127.0.0.1"})
        assert (healthy.returncode, healthy.stdout, healthy.stderr) == (0, "", "")
        assert run("health", "--port", str(exporter.port)).returncode == 0
    port = free_port()
    sick = run("health", "--port", str(port))
    assert sick.returncode == 1
    assert sick.stderr.startswith(f"error: no exporter answers at 127.0.0.1:{port}: ")


def test_logs_can_be_json() -> None:
    with RedisServer() as redis, Exporter(redis=redis, arguments=["--log-format", "json"]) as exporter:
        first = exporter.log.splitlines()[0]
        assert first.startswith("{")
        assert '"level":"INFO"' in first


def test_rust_log_selects_the_lines_of_the_log() -> None:
    with RedisServer() as redis:
        with Exporter(redis=redis, environment={"RUST_LOG": "hyper=debug,warn"}) as quiet:
            assert quiet.log == ""
        with Exporter(redis=redis, environment={"RUST_LOG": "hyper=loud"}) as exporter:
            ignored, serving, *_ = exporter.log.splitlines()
    assert "WARN RUST_LOG is ignored: 'hyper=loud'" in ignored
    assert "INFO serving" in serving
