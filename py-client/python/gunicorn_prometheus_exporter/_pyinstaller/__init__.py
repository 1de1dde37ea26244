"""What PyInstaller needs to freeze an application with this package; PyInstaller finds it by an entry point."""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """Returns the directory of the hooks (entry point ``hook-dirs`` of the group ``pyinstaller40``)."""
    return [str(Path(__file__).parent)]
