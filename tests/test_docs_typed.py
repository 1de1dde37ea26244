"""The commands of the README and of docs/, typed in the order in which they stand, on the ports that they name."""

import os
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from harness import Venv, eventually, own_network
from harness.paths import EXPORTER, ROOT, TARGET, TESTS, built
from harness.process import Guard, clean_environment

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What does more than a test may, and who runs it.
ELSEWHERE = {
    "make demo": "tests/test_demo.py",
    "make test": ".ci/run",
    "pip install target/wheels/*.whl": "tests/test_demo_zero_configuration.py",
    "docker-compose up --build": "scripts/docker-smoke",
    "helm install": "tests/test_deploy_helm.py",
}


def _commands(page: Path) -> list[str]:
    """Indented lines outside of fences, without their comments."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    return [line.split("  #")[0].strip() for line in lines]


class ShellCommand(Guard):
    """A command that goes on until it is ended."""

    name = "typed"

    def __init__(self, line: str, environment: Mapping[str, str]) -> None:
        """`environment` is that of the shell in which it is typed."""
        super().__init__(environment=environment)
        self.line = line
        # What the commands take for granted: an application, and what `make build` left.
        shutil.copy(TESTS / "apps" / "plain.py", self.directory / "app.py")
        (self.directory / "target").symlink_to(TARGET)

    def command(self) -> Sequence[str]:
        """As a shell understands it."""
        return ["bash", "-c", self.line]

    def assert_ready(self) -> None:
        """What it is known for answers."""
        if "redis-server" in self.line:
            socket.create_connection(("127.0.0.1", 6379), timeout=5).close()
            return
        if "SIDECAR_MODE" in self.line:
            socket.create_connection(("127.0.0.1", 8000), timeout=5).close()
            return
        with urllib.request.urlopen("http://127.0.0.1:9091/metrics", timeout=10) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_work_as_they_stand(page: Path, tmp_path: Path) -> None:
    """Those that end do so without an error; those that serve answer, until the next of their kind."""
    environment = {"TMPDIR": str(tmp_path)}
    environment["PATH"] = f"{Venv.default().bin}:{built(EXPORTER).parent}:{os.environ['PATH']}"
    for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)):
        (tmp_path / ("exporter.yml" if number == 0 else f"exporter-{number}.yml")).write_text(text)
    for name in ("deploy", "target"):
        (tmp_path / name).symlink_to(ROOT / name if name == "deploy" else TARGET)
    running: dict[str, ShellCommand] = {}
    with own_network():
        try:
            for line in _commands(page):
                if line in ELSEWHERE or line.partition(" ARGS=")[0] in ELSEWHERE or line.startswith("helm install "):
                    continue
                line = line.replace("redis.internal", "127.0.0.1")
                if line.startswith("export "):
                    environment |= _exported(line, environment)
                elif re.search(r"redis-server|gunicorn -k|standalone|sidecar", line):
                    # One that has the ports of the one before takes its place.
                    kind = "redis" if "redis-server" in line else "app" if "SIDECAR_MODE" in line else "exporter"
                    if kind in running:
                        running.pop(kind).stop()
                    running[kind] = ShellCommand(line, environment)
                    running[kind].start()
                else:
                    eventually(lambda line=line: _type(line, environment, tmp_path))  # type: ignore[misc]
        finally:
            for typed in running.values():
                typed.stop()


def _type(line: str, environment: Mapping[str, str], directory: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=directory,
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert not done.stdout.startswith("ERR"), f"{line}\n{done.stdout}"


def _exported(line: str, environment: Mapping[str, str]) -> dict[str, str]:
    name = line.removeprefix("export ").partition("=")[0]
    shell = ["bash", "-c", f'{line}; printf %s "${name}"']
    done = subprocess.run(shell, env=clean_environment(environment), capture_output=True, text=True, check=True)
    return {name: done.stdout}


def test_what_is_not_typed_here_is_run_elsewhere() -> None:
    """By a file that is there."""
    for command, runner in ELSEWHERE.items():
        assert (ROOT / runner).is_file(), f"{runner}, which is to run {command}"
