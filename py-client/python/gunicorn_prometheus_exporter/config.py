"""The settings of the YAML file and the environment. The Rust crate parses them for all parts."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from . import _native
from ._native import load_yaml_config

__all__ = ["ConfigError", "load", "load_yaml_config", "overrides", "use_file"]

_path: Path | None = None
#: Variables that a program has set for itself; they take precedence over the environment.
overrides: dict[str, str] = {}


class ConfigError(ValueError, RuntimeError):
    """A setting that cannot be used. A ``RuntimeError`` becomes one line at Gunicorn's start."""


def use_for_caller(config_file: str | os.PathLike[str]) -> None:
    """Does the work of ``load_yaml_config`` for its calling file."""
    settings = use_file(config_file)
    names = sys._getframe(1).f_globals
    for name, value in settings.gunicorn.items():
        names.setdefault(name, value)
    directory = settings.multiproc_dir
    if directory is not None and not settings.redis_enabled:
        # Programs that read prometheus_client's files look for them here. If the directory cannot be made, the
        # application runs all the same, and the exporter logs the cause.
        with contextlib.suppress(OSError):
            Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(directory))


def use_file(config_file: str | os.PathLike[str]) -> _native.Settings:
    """Uses the settings of this file from now on, and returns them. Changes nothing if the file is wrong."""
    global _path
    path = Path(config_file).absolute()
    settings = _load(path)
    _path = path
    return settings


def load() -> _native.Settings:
    """Returns the settings of the file last passed to :func:`load_yaml_config` and of the environment."""
    return _load(_path)


def _load(path: Path | None) -> _native.Settings:
    try:
        return _native.load_settings(path, {**os.environ, **overrides})
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from None


def __getattr__(name: str) -> Any:
    """Returns names that were here in the package before this one."""
    if not name.startswith("_"):
        compat = importlib.import_module(".compat.settings", __package__)
        if name in compat.__all__:
            return getattr(compat, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
