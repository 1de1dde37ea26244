"""The module's README, typed into redis-cli line by line."""

import re
import shlex
import subprocess

from harness import RedisServer
from harness.paths import ROOT


def examples() -> list[tuple[str, str]]:
    """Each command that follows a `> `, and what is shown below it."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"^```\n(> .*?)^```$", (ROOT / "redis-module/README.md").read_text(), re.M | re.S):
        for example in re.split(r"^> ", block, flags=re.M)[1:]:
            command, _, reply = example.partition("\n")
            found.append((command, reply.rstrip()))
    return found


def test_the_readme_tells_the_truth() -> None:
    assert len(examples()) > 12
    with RedisServer() as redis:
        for command, reply in examples():
            form = "--raw" if reply.startswith("#") else "--no-raw"
            words = ["redis-cli", "-s", str(redis.socket), form, *shlex.split(command)]
            output = subprocess.run(words, check=True, capture_output=True, text=True).stdout.rstrip()
            assert re.sub(r"\b[0-9a-f]{16}\b", "<epoch>", output) == reply, command
