"""Finds the program of the exporter: this interpreter, or the exporter's own program.

A frozen application (PyInstaller and others) has no interpreter that could be started: its
``sys.executable`` is the application, which would start again and again as "the exporter".
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from . import _native

_PROGRAM = "gunicorn-prometheus-exporter"
_INTERPRETER = re.compile(r"(python|pypy|graalpy)w?[\d.]*[a-z]*(\.exe)?", re.IGNORECASE)


class NoExporterError(RuntimeError):
    """There is no program that could run the exporter."""


def find() -> tuple[list[str], bool]:
    """Returns the program with its first words, and whether it takes the ids of its user as arguments.

    Raises :class:`NoExporterError`, with one line.
    """
    if _native.MARKER in os.environ:
        raise NoExporterError(
            f"this process was started as a metrics exporter ({_native.MARKER} is in its environment),"
            " and starts no other"
        )
    if not _is_frozen():
        script = Path(__file__).with_name("run_exporter.py")
        return [sys.executable, "-I", "-S", str(script), _native.__file__], True
    program = find_program(_places())
    if program is not None:
        return [program, "instance"], False
    raise NoExporterError(
        f"{sys.executable or 'this program'} is no Python interpreter, and there is no program {_PROGRAM} that could be"
        " started as the exporter: put it beside the application, or into PATH"
    )


def _is_frozen() -> bool:
    if getattr(sys, "frozen", False) or not sys.executable:
        return True
    names = {Path(sys.executable).name, Path(sys.executable).resolve().name}
    return not any(_INTERPRETER.fullmatch(name) for name in names)


def find_program(places: Iterable[str]) -> str | None:
    """Returns the exporter's program in the first of these directories that has it.

    A script of that name, as wheels install it, is not it: it would start its own interpreter, of another environment
    and perhaps with another version of this package.
    """
    for place in places:
        program = shutil.which(_PROGRAM, path=place)
        if program is not None and not _is_script(program):
            return program
    return None


def path() -> list[str]:
    """Returns the directories of PATH."""
    return [place for place in os.get_exec_path() if place]


def _is_script(program: str) -> bool:
    with Path(program).open("rb") as file:
        return file.read(2) == b"#!"


def _places() -> list[str]:
    beside = [str(Path(sys.executable).parent)] if sys.executable else []
    bundle = getattr(sys, "_MEIPASS", None)
    return [*beside, *([bundle] if bundle else []), *path()]
