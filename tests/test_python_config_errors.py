"""Each setting with a wrong value gives one line that names the place, the value and what is allowed."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness import Gunicorn, Venv
from harness.paths import EXPORTER, ROOT, built
from harness.process import clean_environment

PORT = "a whole number from 1 to 65535"
SECONDS = "a whole number from 0 to 1000000"
HOST = "an IP address or a host name, without a port"
BOOLEAN = "true, false, yes, no, on, off, 1 or 0"
BOUNDS = "a list of ascending finite numbers"
# For each key: a wrong value, and the words for what is allowed. Texts may have any value.
WRONG = {
    "prometheus.metrics_port": ("70000", PORT),
    "prometheus.bind_address": ("0.0.0.0:9091", HOST),
    "prometheus.scope": ("all", "shared or instance"),
    "prometheus.multiproc_group": ("maybe", BOOLEAN),
    "prometheus.ssl.enabled": ("maybe", BOOLEAN),
    "prometheus.ssl.client_auth_required": ("maybe", BOOLEAN),
    "flush_interval": ("60", "a number of seconds from 0.05 to 10"),
    "cleanup.db_files": ("2", BOOLEAN),
    "auth.password_hash": ("secret", "a bcrypt hash, as htpasswd -nB prints it"),
    "redis.enabled": ("maybe", BOOLEAN),
    "redis.url": ("http://redis", "redis://, rediss:// or unix:// and an address"),
    "redis.host": ("redis:6379", HOST),
    "redis.port": ("0", PORT),
    "redis.db": ("-1", "a whole number from 0 to 1000000"),
    "redis.key_prefix": ("x" * 201, "1 to 200 bytes"),
    "redis.ttl_seconds": ("soon", "a whole number up to 4294967295, 0 or less for no end"),
    "redis.ttl_disabled": ("maybe", BOOLEAN),
    "redis.ssl.enabled": ("maybe", BOOLEAN),
    "redis.ssl.verify": ("maybe", BOOLEAN),
    "redis.sentinel.hosts": ("one", "a list of host:port"),
    "redis.cluster": ("maybe", BOOLEAN),
    "redis.shards": ("65", "a whole number from 1 to 64"),
    "http.endpoint_limit": ("-1", "a whole number from 0 to 100000"),
    "http.skip_paths": ("health", "a list of paths that begin with /"),
    "http.group_status": ("maybe", BOOLEAN),
    "http.buckets": ("low", BOUNDS),
    "http.size_buckets": ("many", BOUNDS),
    "http.exemplars": ("maybe", BOOLEAN),
    "http.in_flight": ("paths", "endpoint, path or off"),
    "http.stacks": ("maybe", BOOLEAN),
    "gunicorn.workers": ("0", "a whole number from 1 to 4096"),
    "gunicorn.timeout": ("-1", SECONDS),
    "gunicorn.keepalive": ("long", SECONDS),
}
# Texts: any value is allowed, and these lists contain only texts.
ANYTHING = {
    *("prometheus.multiproc_dir", "instance", "auth.username", "http.skip_methods"),
    *(f"prometheus.ssl.{name}" for name in ("certfile", "keyfile", "client_cafile", "client_capath")),
    *(f"redis.{name}" for name in ("username", "password")),
    *(f"redis.ssl.{name}" for name in ("ca_file", "cert_file", "key_file")),
    *(f"redis.sentinel.{name}" for name in ("master", "username", "password")),
}
# The error does not repeat values that may contain a password.
HIDDEN = {"redis.url", "auth.password_hash"}


def _documented() -> dict[str, str]:
    """Returns the variable of each key, from the page for users."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    return dict(re.findall(r"^\| `([a-z_.]+)` \| `([A-Z_]+)` \|", text, re.MULTILINE))


def _file(directory: Path, key: str, value: str) -> Path:
    path = directory / "exporter.yml"
    *sections, name = f"exporter.{key}".split(".")
    lines = [f"{'  ' * depth}{section}:" for depth, section in enumerate(sections)]
    path.write_text("\n".join([*lines, f"{'  ' * len(sections)}{name}: {value!r}"]) + "\n")
    return path


def _check(environment: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    command = [str(built(EXPORTER)), "check-config", *arguments]
    done = subprocess.run(
        command, env=clean_environment(environment), capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stderr.strip()


def test_every_documented_key_is_tried() -> None:
    """Every key of the page has a wrong value in this file, unless any text is allowed for it."""
    assert set(_documented()) == set(WRONG) | ANYTHING


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_value_is_named_with_its_place_and_what_is_allowed(key: str, tmp_path: Path) -> None:
    """The error names path, line and key of a file, or the variable."""
    value, allowed = WRONG[key]
    shown = "" if key in HIDDEN else value
    path, variable = _file(tmp_path, key, value), _documented()[key]
    line = path.read_text().count("\n")
    places = {(): variable, ("--config", str(path)): f"{path}:{line}: exporter.{key}"}
    for arguments, place in places.items():
        status, said = _check({} if arguments else {variable: value}, *arguments)
        assert status == 64
        assert re.fullmatch(rf"error: {re.escape(place)} is (.*), allowed is {re.escape(allowed)}", said), said
        assert shown in said
        assert key not in HIDDEN or value not in said
    # The environment comes before the file, also if its value is wrong.
    assert variable in _check({variable: value}, "--config", str(path))[1]


@pytest.mark.parametrize(
    ("key", "value", "variable", "other"),
    [
        ("prometheus.metrics_port", "9100", "PROMETHEUS_METRICS_PORT", "9200"),
        ("redis.host", "file", "REDIS_HOST", "variable"),
        ("http.endpoint_limit", "5", "GUNICORN_EXPORTER_HTTP_ENDPOINT_LIMIT", "6"),
    ],
)
def test_flags_come_before_the_environment_and_that_before_the_file(
    key: str, value: str, variable: str, other: str, tmp_path: Path
) -> None:
    """Checks the settings in force."""
    path = _file(tmp_path, key, value)
    command = [str(built(EXPORTER)), "check-config", "--config", str(path)]

    def in_force(environment: Mapping[str, str], *flags: str) -> str:
        return str(subprocess.check_output([*command, *flags], env=clean_environment(environment), text=True))

    name = key.rpartition(".")[2]
    assert re.search(rf"\b{name}: \W?{value}\W?$", in_force({}), re.MULTILINE)
    assert re.search(rf"\b{name}: \W?{other}\W?$", in_force({variable: other}), re.MULTILINE)
    if name == "metrics_port":
        assert "metrics_port: 9300" in in_force({variable: other}, "--port=9300")


def test_unknown_names_are_a_warning_with_the_nearest_name(tmp_path: Path) -> None:
    """A key of the file, and a variable; the other settings are used."""
    path = _file(tmp_path, "redis.prot", "6380")
    status, said = _check({"REDIS_HSOT": "redis"}, "--config", str(path))
    assert status == 0
    assert f"{path}:3: unknown key exporter.redis.prot, the nearest known is exporter.redis.port" in said
    assert "unknown variable REDIS_HSOT, the nearest known is REDIS_HOST" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exporter:\n  redis: [\n", "Invalid YAML in configuration file: {path}:2: "),
        (None, "Configuration file not found: {path}"),
        ("", "Path is not a file: {path}"),
        ("exporter:\n  redis:\n    port: many\n", '{path}:3: exporter.redis.port is "many", allowed is ' + PORT),
    ],
    ids=["not-yaml", "missing", "a-directory", "wrong"],
)
@pytest.mark.parametrize("version", ["21.2", "newest"])
def test_a_file_that_cannot_be_used_ends_gunicorn_with_one_line(
    text: str | None, words: str, version: str, tmp_path: Path
) -> None:
    """Below Gunicorn's traceback, which shows the line of the configuration file and none of our code."""
    path = tmp_path / "exporter.yml"
    if text:
        path.write_text(text)
    elif text is not None:
        path.mkdir()
    config = tmp_path / "gunicorn.conf.py"
    config.write_text(f"from gunicorn_prometheus_exporter import load_yaml_config\nload_yaml_config({str(path)!r})\n")
    gunicorn = Venv.gunicorn(version).bin / "gunicorn"
    done = subprocess.run(
        [gunicorn, "--config", config, "app:app"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode != 0
    *before, last = done.stderr.strip().splitlines()
    assert words.format(path=path) in last
    assert not any("gunicorn_prometheus_exporter/" in line for line in before), done.stderr
    assert 'load_yaml_config("' in before[-1] or "load_yaml_config('" in before[-1], done.stderr
    status, said = _check({}, "--config", str(path))
    assert (status, said.count("\n")) == (64, 0)
    assert words.format(path=path) in said


def test_a_configuration_file_may_catch_the_error(tmp_path: Path) -> None:
    """The error is an exception, as in the original package."""
    config = (
        "from gunicorn_prometheus_exporter import load_yaml_config\n"
        f"try:\n    load_yaml_config({str(tmp_path / 'none.yml')!r})\n"
        "except FileNotFoundError:\n    pass\n"
    )
    with Gunicorn(config=config) as gunicorn:
        assert gunicorn.get().status == 200
