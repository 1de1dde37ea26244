"""Types the commands of the README and of docs/, in their order, on the ports that they name."""

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
# Commands that a test may not run here, and the file that runs each of them.
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
    """A command that runs until it is stopped."""

    name = "typed"

    def __init__(self, line: str, environment: Mapping[str, str]) -> None:
        """`environment` is the environment of the shell."""
        super().__init__(environment=environment)
        self.line = line
        # The commands need an application, and the results of `make build`.
        shutil.copy(TESTS / "apps" / "plain.py", self.directory / "app.py")
        (self.directory / "target").symlink_to(TARGET)

    def command(self) -> Sequence[str]:
        """A shell runs the line."""
        return ["bash", "-c", self.line]

    def assert_ready(self) -> None:
        """The port of its kind answers."""
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
    """Commands that end do so without an error; commands that serve answer, until the next of their kind starts."""
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
                    # A command that uses the same ports replaces the one before.
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


def test_commands_that_are_not_typed_here_have_another_test() -> None:
    """Each of these commands is run by a file that exists."""
    for command, runner in ELSEWHERE.items():
        assert (ROOT / runner).is_file(), f"{runner}, which is to run {command}"
