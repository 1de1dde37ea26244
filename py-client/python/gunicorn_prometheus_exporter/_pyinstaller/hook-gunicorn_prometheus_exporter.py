"""PyInstaller's hook for this package, which loads its modules by name."""

from __future__ import annotations

from pathlib import Path

import gunicorn_prometheus_exporter
from gunicorn_prometheus_exporter import exporter_command

PACKAGE = gunicorn_prometheus_exporter.__name__
#: The programs of the interpreter, which a frozen application does not have, and this hook.
NOT_FROZEN = {"__main__", "run_exporter", "_pyinstaller"}


def modules() -> list[str]:
    """Returns the names of all modules of the package that a frozen application can use."""
    root = Path(gunicorn_prometheus_exporter.__file__).parent
    files = [path.relative_to(root) for pattern in ("**/*.py", "*.so") for path in root.glob(pattern)]
    names = set()
    for file in files:
        parts = [*file.parent.parts, file.name.partition(".")[0]]
        if not NOT_FROZEN.intersection(parts):
            names.add(".".join([PACKAGE, *parts]).removesuffix(".__init__"))
    return sorted(names)


hiddenimports = modules()

# Frameworks and servers come into the application with the application's own imports, and not by way of this package.
excludedimports = [
    "asgiref",
    "a2wsgi",
    "bottle",
    "cherrypy",
    "django",
    "falcon",
    "flask",
    "pyramid",
    "pytest",
    "quart",
    "rest_framework",
    "starlette",
    "werkzeug",
]

# The exporter is a process of its own. A frozen application cannot start its interpreter again, so the exporter's
# program goes into the bundle, if this machine has it.
_program = exporter_command.find_program(exporter_command.path())
binaries = [] if _program is None else [(_program, ".")]
