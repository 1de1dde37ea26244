#!/usr/bin/env python3
"""Prints docs/cli.md, from the help of the exporter's program: `make docs`.

scripts/cli_page.py target/release/gunicorn-prometheus-exporter
"""

from __future__ import annotations

import re
import subprocess
import sys

HEAD = """\
# Command line

`gunicorn-prometheus-exporter`, the program; `python -m gunicorn_prometheus_exporter` is the same. A container needs no
command word, because its environment decides ([installation](installation.md#images)).

This page is written by `make docs` from the program's own help; a test compares it with that.
"""


def main() -> None:
    """Prints the page."""
    print(page(sys.argv[1]), end="")


def page(program: str) -> str:
    """Returns the page, in Markdown."""
    first = _help(program)
    commands = re.findall(r"^  ([a-z-]+)  ", first.split("Commands:")[1].split("Options:")[0], re.MULTILINE)
    parts = [HEAD, _block("gunicorn-prometheus-exporter", first)]
    parts.extend(_block(command, _help(program, command)) for command in commands if command != "help")
    return "\n".join(parts)


def _help(program: str, *words: str) -> str:
    done = subprocess.run([program, *words, "--help"], env={}, capture_output=True, text=True, check=True)
    return done.stdout


def _block(title: str, text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    return f"## {title}\n\n```text\n{lines}\n```\n"


if __name__ == "__main__":
    main()
