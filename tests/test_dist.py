"""What a release consists of: the wheel's metadata and command, and what `scripts/dist` packs."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest

from harness import RedisServer, Venv
from harness.helm import install
from harness.paths import EXPORTER, ROOT, TARGET, built, wheel
from harness.process import clean_environment

_PACKAGE = (ROOT / "Cargo.toml").read_text().split("[workspace.package]")[1]
VERSION, REPOSITORY = (re.findall(rf'^{key} = "(.*)"$', _PACKAGE, re.MULTILINE)[0] for key in ("version", "repository"))


def _metadata() -> dict[str, list[str]]:
    with zipfile.ZipFile(wheel()) as packed:
        (name,) = [name for name in packed.namelist() if name.endswith(".dist-info/METADATA")]
        message = Parser().parsestr(packed.read(name).decode())
    return {key: message.get_all(key, []) for key in message} | {"body": [str(message.get_payload())]}


def test_the_wheel_says_what_it_is() -> None:
    """A description, addresses, the licence and classifiers: what an index shows."""
    found = _metadata()
    assert found["Version"] == [VERSION]
    assert "PrometheusWorker" in found["body"][0]
    assert "](" not in found["body"][0], "links to files of the repository lead nowhere on an index"
    assert found["License-Expression"] == ["MIT"]
    assert found["License-File"] == ["LICENSE"]
    addresses = dict(one.split(", ") for one in found["Project-URL"])
    assert set(addresses) == {"Homepage", "Documentation", "Issues", "Changelog"}
    assert addresses["Homepage"] == REPOSITORY
    assert {"Development Status :: 5 - Production/Stable", "Typing :: Typed"} < set(found["Classifier"])
    assert set(found["Provides-Extra"]) == {"redis", "gevent", "eventlet", "async", "all"}


def test_the_public_address_is_the_same_everywhere() -> None:
    """Cargo.toml has it; chart, images and site repeat it."""
    owner, name = REPOSITORY.removeprefix("https://github.com/").split("/")
    site = f"https://{owner}.github.io/{name}/"
    assert f"repo_url: {REPOSITORY}\nsite_url: {site}\n" in (ROOT / "mkdocs.yml").read_text()
    for path in ("deploy/docker/Dockerfile", "deploy/helm/Chart.yaml"):
        assert REPOSITORY in (ROOT / path).read_text(), path
    assert f"runbook_url: {site}runbook/#" in (ROOT / "deploy" / "prometheus" / "rules.yml").read_text()


def test_the_wheel_installs_the_command() -> None:
    """`gunicorn-prometheus-exporter`, the same program as the binary, under its own name."""
    command = Venv.default().bin / "gunicorn-prometheus-exporter"
    said = [
        subprocess.run([one, "--version"], capture_output=True, text=True, check=True).stdout
        for one in (command, built(EXPORTER))
    ]
    assert said[0] == said[1] == f"gunicorn-prometheus-exporter {VERSION}\n"
    with RedisServer() as redis:
        environment = clean_environment({"GUNICORN_EXPORTER_REDIS_URL": redis.url})
        pushed = subprocess.run(
            [command, "push", "--job", "nightly"],
            env=environment,
            input="rows 7\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert pushed.returncode == 0, pushed.stderr
    wrong = subprocess.run([command, "sidekick"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, "Usage: gunicorn-prometheus-exporter" in wrong.stderr) == (64, True)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The files of `scripts/dist --as-built`, by their names. It compiles nothing."""
    target = tmp_path_factory.mktemp("target")
    for name in ("release", "wheels"):
        (target / name).symlink_to(TARGET / name)
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "CARGO_NET_OFFLINE": "true"}
    done = subprocess.run(
        [ROOT / "scripts" / "dist", "--as-built"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    yield {path.name: path for path in (target / "dist").iterdir()}
    shutil.rmtree(target)


def test_every_file_of_a_release_has_its_checksum(dist: dict[str, Path]) -> None:
    lines = [line.split("  ") for line in dist["SHA256SUMS"].read_text().splitlines()]
    sums = {name: checksum for checksum, name in lines}
    assert sums == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in dist.items() if name != "SHA256SUMS"
    }
    kinds = sorted(re.sub(r".*?((\.tar)?\.\w+)$", r"\1", name) for name in sums)
    assert kinds == [".deb", ".deb", ".tar.gz", ".tar.gz", ".tar.gz", ".tgz", ".whl"]


def test_the_source_distribution_is_complete(dist: dict[str, Path]) -> None:
    """Cargo resolves it without the network, and it has what the wheel has of Python, licence and description."""
    with tarfile.open(dist[f"gunicorn_prometheus_exporter-{VERSION}.tar.gz"]) as packed:
        packed.extractall(dist["SHA256SUMS"].parents[1] / "sdist", filter="data")
    root = dist["SHA256SUMS"].parents[1] / "sdist" / f"gunicorn_prometheus_exporter-{VERSION}"
    command: list[str | Path] = [
        "cargo",
        "metadata",
        "--offline",
        "--format-version=1",
        "--manifest-path",
        root / "py-client/Cargo.toml",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (root / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    with zipfile.ZipFile(wheel()) as built_wheel:
        python = {name for name in built_wheel.namelist() if name.endswith((".py", ".pyi", "py.typed"))}
    found = {str(path.relative_to(root / "python")) for path in (root / "python").rglob("*.py*")}
    found |= {str(path.relative_to(root / "python")) for path in (root / "python").rglob("py.typed")}
    assert python <= found
    # Files that the sources include are there too.
    for source in root.rglob("*.rs"):
        for name in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', source.read_text()):
            assert (source.parent / name).exists(), f"{source} includes {name}"


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is Debian's")
@pytest.mark.parametrize(
    ("package", "files"),
    [
        (
            "gunicorn-prometheus-exporter",
            {"./usr/bin/gunicorn-prometheus-exporter", "./lib/systemd/system/gunicorn-prometheus-exporter.service"},
        ),
        (
            "redis-metrics",
            {"./usr/lib/redis/modules/libredis_metrics.so", "./usr/share/doc/redis-metrics/metrics.conf"},
        ),
    ],
)
def test_debian_packages_have_their_files(package: str, files: set[str], dist: dict[str, Path]) -> None:
    """The unit and the fragment name the paths of the package."""
    (path,) = [path for name, path in dist.items() if name.startswith(f"{package}_")]
    packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        names = set(archive.getnames())
        assert {name.removeprefix("./") for name in files} <= {name.removeprefix("./") for name in names}
        for name in files:
            if name.endswith((".service", ".conf")):
                file = archive.extractfile(name)
                assert file is not None
                assert "/usr/local" not in file.read().decode()
    fields = subprocess.run(["dpkg-deb", "--field", path], capture_output=True, text=True, check=True).stdout
    assert f"Package: {package}\nVersion: {VERSION}\n" in fields


def test_the_packed_chart_can_be_installed(dist: dict[str, Path], tmp_path: Path) -> None:
    """It has one directory with the name of the chart, and no links."""
    with tarfile.open(dist[f"gunicorn-prometheus-exporter-{VERSION}.tgz"]) as packed:
        assert not any(member.issym() for member in packed)
        packed.extractall(tmp_path, filter="data")
    assert install(tmp_path / "gunicorn-prometheus-exporter", {}).objects


def test_the_workflows_build_what_the_script_builds() -> None:
    """Wheels for both C libraries, both processors and macOS; provenance; the tag is the version."""
    text = "".join(path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    for word in ("2_28", "musllinux_1_2", "aarch64", "macos", "attest-build-provenance", "SHA256SUMS", "make site"):
        assert word in text, word
