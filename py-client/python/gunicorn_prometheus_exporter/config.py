"""Settings: what the YAML file and the environment say. They are parsed in Rust, for all parts alike."""

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
#: Variables that a program has given itself; they count more than the environment's.
overrides: dict[str, str] = {}


class ConfigError(ValueError, RuntimeError):
    """A setting that cannot be used. As a ``RuntimeError`` it is one line at Gunicorn's start."""


def use_for_caller(config_file: str | os.PathLike[str]) -> None:
    """What ``load_yaml_config`` does, for the file that has called that."""
    settings = use_file(config_file)
    names = sys._getframe(1).f_globals
    for name, value in settings.gunicorn.items():
        names.setdefault(name, value)
    directory = settings.multiproc_dir
    if directory is not None and not settings.redis_enabled:
        # Programs that read prometheus_client's files look for them here. Where it cannot be made, the application
        # runs nevertheless, and the exporter names the cause.
        with contextlib.suppress(OSError):
            Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(directory))


def use_file(config_file: str | os.PathLike[str]) -> _native.Settings:
    """From now on settings are those of this file; returns them. Nothing is changed if it is wrong."""
    global _path
    path = Path(config_file).absolute()
    settings = _load(path)
    _path = path
    return settings


def load() -> _native.Settings:
    """The settings now, of the file last named to :func:`load_yaml_config` and of the environment."""
    return _load(_path)


def _load(path: Path | None) -> _native.Settings:
    try:
        return _native.load_settings(path, {**os.environ, **overrides})
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from None


def __getattr__(name: str) -> Any:
    """The names that were here in the package before this one."""
    if not name.startswith("_"):
        compat = importlib.import_module(".compat.settings", __package__)
        if name in compat.__all__:
            return getattr(compat, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
