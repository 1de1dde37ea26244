"""The module's README, typed into redis-cli line by line."""

import re
import subprocess

from harness import RedisServer
from harness.paths import ROOT

README = ROOT / "redis-module/README.md"


def examples() -> list[tuple[str, str]]:
    """Returns each command that follows a `> `, and the text below it."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"^```\n(> .*?)^```$", README.read_text(), re.M | re.S):
        for example in re.split(r"^> ", block, flags=re.M)[1:]:
            command, _, reply = example.partition("\n")
            found.append((command, reply.rstrip()))
    return found


def typed(redis: RedisServer, command: str, *, raw: bool) -> str:
    """Returns what redis-cli prints for a typed line."""
    words = ["redis-cli", "-s", str(redis.socket), "--raw" if raw else "--no-raw"]
    shown = subprocess.run(words, check=True, capture_output=True, text=True, input=command + "\n").stdout.rstrip()
    return re.sub(r"\b[0-9a-f]{16}\b", "<epoch>", shown)


def test_redis_cli_prints_the_replies_of_the_readme() -> None:
    assert len(examples()) > 30
    with RedisServer() as redis:
        for command, reply in examples():
            shown = typed(redis, command, raw=reply.startswith("#"))
            if reply.endswith("\n…"):  # the rest of the reply is not shown
                reply = reply.removesuffix("…")
                shown = shown[: len(reply)]
            assert shown == reply, command


def test_each_command_has_an_example() -> None:
    table = set(re.findall(r"^\| `(METRICS\.[A-Z]+) ", README.read_text(), re.M))
    assert len(table) == 15
    assert table == {command.split()[0] for command, _ in examples()}
