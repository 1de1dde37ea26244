"""The directory of ``prometheus_client``'s files, which file mode uses."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["ensure_multiprocess_dir", "get_multiprocess_dir"]


def get_multiprocess_dir() -> str | None:
    """Returns its path, if it is set."""
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR")


def ensure_multiprocess_dir(mp_dir: str | None) -> bool:
    """Creates it; returns whether it exists now."""
    if not mp_dir:
        return False
    Path(mp_dir).mkdir(parents=True, exist_ok=True)
    return True
