"""`python -m gunicorn_prometheus_exporter` is the exporter's command line: the wheel needs no other program."""

import subprocess
from pathlib import Path

import pytest

from harness import Venv
from harness.process import clean_environment


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs it in the default environment."""
    return subprocess.run(
        [Venv.default().bin / "python", "-m", "gunicorn_prometheus_exporter", *words],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(environment),
    )


def test_help_and_version() -> None:
    """Help names the command by which it was called."""
    assert run("--version").stdout.startswith("gunicorn-prometheus-exporter ")
    help_text = run("--help")
    assert help_text.returncode == 0
    assert "python -m gunicorn_prometheus_exporter" in help_text.stdout
    assert "check-config" in help_text.stdout


def test_unknown_commands_and_wrong_settings_have_their_exit_codes() -> None:
    """Exit codes are those of the program."""
    assert run("dance").returncode == 64
    wrong = run("check-config", REDIS_PORT="many")
    assert wrong.returncode == 64
    assert "REDIS_PORT" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def settings_of(text: str) -> list[str]:
    """Returns the lines without the comments, which name the source of a value."""
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def test_check_config_spells_settings_as_a_file_does(tmp_path: Path) -> None:
    """It prints a file with the same meaning."""
    first = run("check-config", GUNICORN_EXPORTER_FLUSH_INTERVAL="0.5", CLEANUP_DB_FILES="no")
    assert "flush_interval: 0.5" in first.stdout
    assert "_ms" not in first.stdout
    assert "sidecar_mode" not in first.stdout
    path = tmp_path / "exporter.yml"
    path.write_text(first.stdout)
    again = run("check-config", "--config", str(path))
    assert "unknown key" not in again.stderr
    assert settings_of(again.stdout) == settings_of(first.stdout)


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("REDIS_PROT", "unknown variable REDIS_PROT, the nearest known is REDIS_PORT"),
        (
            "PROMETHEUS_METRIC_PORT",
            "unknown variable PROMETHEUS_METRIC_PORT, the nearest known is PROMETHEUS_METRICS_PORT",
        ),
        ("GUNICORN_EXPORTER_INSTANZ", "the nearest known is GUNICORN_EXPORTER_INSTANCE"),
        ("REDIS_URL", ""),
        ("REDIS_TLS_URL", ""),
        ("PROMETHEUS_DISABLE_CREATED_SERIES", ""),
    ],
)
def test_a_misspelt_variable_is_a_warning(variable: str, said: str) -> None:
    """The warning names the nearest variable; variables of other programs cause none."""
    warned = run("check-config", **{variable: "1"})
    assert warned.returncode == 0
    assert said in warned.stderr
    assert said or variable not in "".join(line for line in warned.stderr.splitlines() if " WARN " in line)
