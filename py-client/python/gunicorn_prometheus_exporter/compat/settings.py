"""The settings as attributes, and a manager of them, under the names of the package before this one.

Settings are parsed in one place (:mod:`..config`); these classes only read them.
"""

from __future__ import annotations

import enum
import json
from typing import Any

from .. import _native, config

__all__ = [
    "ConfigManager",
    "ConfigState",
    "ExporterConfig",
    "cleanup_config",
    "get_config",
    "get_config_manager",
    "initialize_config",
]


class ExporterConfig:
    """The settings as attributes, under the names of the package before this one."""

    def __init__(self, settings: _native.Settings | None = None) -> None:
        self._settings = settings or config.load()
        everything: dict[str, Any] = json.loads(self._settings.to_json())
        prometheus, redis = everything["prometheus"], everything["redis"]
        tls, gunicorn = prometheus["ssl"], self._settings.gunicorn
        directory = self._settings.multiproc_dir
        self.prometheus_metrics_port: int = prometheus["metrics_port"]
        self.prometheus_bind_address: str = prometheus["bind_address"]
        self.prometheus_multiproc_dir = None if directory is None else str(directory)
        self.prometheus_ssl_enabled: bool = tls["enabled"]
        self.prometheus_ssl_certfile: str | None = tls["certfile"]
        self.prometheus_ssl_keyfile: str | None = tls["keyfile"]
        self.prometheus_ssl_client_cafile: str | None = tls["client_cafile"]
        self.prometheus_ssl_client_capath: str | None = tls["client_capath"]
        self.prometheus_ssl_client_auth_required: bool = tls["client_auth_required"]
        self.gunicorn_workers = gunicorn.get("workers", 1)
        self.gunicorn_timeout = gunicorn.get("timeout", 30)
        self.gunicorn_keepalive = gunicorn.get("keepalive", 2)
        self.is_sidecar: bool = everything["sidecar_mode"]
        self.redis_enabled: bool = redis["enabled"]
        self.redis_host: str = redis["host"]
        self.redis_port: int = redis["port"]
        self.redis_db: int = redis["db"]
        self.redis_password = self._settings.redis_password
        self.redis_key_prefix: str = redis["key_prefix"]
        self.redis_ttl_seconds: int = redis["ttl_seconds"]
        self.redis_ttl_disabled: bool = redis["ttl_seconds"] == 0
        self.cleanup_db_files: bool = everything["cleanup_db_files"]

    def validate(self) -> bool:
        """Returns true: wrong settings have already raised when they were read."""
        return True

    def get_gunicorn_config(self) -> dict[str, int]:
        """Returns the section ``exporter.gunicorn``."""
        return dict(self._settings.gunicorn)

    def get_prometheus_config(self) -> dict[str, Any]:
        """Returns the settings of the listener."""
        return {
            "bind_address": self.prometheus_bind_address,
            "port": self.prometheus_metrics_port,
            "multiproc_dir": self.prometheus_multiproc_dir,
        }


class ConfigState(enum.Enum):
    """The states of a :class:`ConfigManager`."""

    UNINITIALIZED = "uninitialized"
    INITIALIZING = "initializing"
    INITIALIZED = "initialized"
    VALIDATING = "validating"
    UPDATING = "updating"
    CLEANUP = "cleanup"
    ERROR = "error"


class ConfigManager:
    """Settings that a program sets for itself: a YAML file, and variables that take precedence over the environment."""

    def __init__(self) -> None:
        self.state = ConfigState.UNINITIALIZED
        self.validation_errors: list[str] = []
        self._config: ExporterConfig | None = None

    @property
    def is_initialized(self) -> bool:
        """Returns whether there are settings."""
        return self.state is ConfigState.INITIALIZED

    def initialize(self, config_file: str | None = None, **variables: object) -> None:
        """Reads the file, if one is given, and sets variables (``REDIS_PORT=6380``); raises ``ValueError``."""
        if config_file is not None:
            config.use_file(config_file)
        self.update_config(**variables)

    def update_config(self, **variables: object) -> None:
        """Sets more variables; changes nothing if one of them is wrong."""
        before = dict(config.overrides)
        config.overrides.update({name.upper(): str(value) for name, value in variables.items()})
        try:
            self._config = ExporterConfig()
        except ValueError as error:
            config.overrides.clear()
            config.overrides.update(before)
            self.state, self.validation_errors = ConfigState.ERROR, [str(error)]
            raise
        self.state, self.validation_errors = ConfigState.INITIALIZED, []

    def reload_config(self) -> None:
        """Reads everything again."""
        self.update_config()

    def get_config(self) -> ExporterConfig:
        """Returns the settings; reads them if they were not read yet."""
        if self._config is None:
            self.update_config()
        assert self._config is not None
        return self._config

    def cleanup(self) -> None:
        """Removes what a program has set for itself."""
        config.overrides.clear()
        self._config = None
        self.state, self.validation_errors = ConfigState.UNINITIALIZED, []

    reset = cleanup

    def get_config_summary(self) -> dict[str, Any]:
        """A few settings for people."""
        if self._config is None:
            return {"state": self.state.value, "initialized": False}
        return {
            "state": self.state.value,
            "initialized": True,
            "validation_errors": self.validation_errors,
            "prometheus_port": self._config.prometheus_metrics_port,
            "redis_enabled": self._config.redis_enabled,
            "gunicorn_workers": self._config.gunicorn_workers,
        }

    def health_check(self) -> dict[str, Any]:
        """Returns whether the settings can be used."""
        return {"healthy": self.is_initialized, "state": self.state.value, "errors": self.validation_errors}


_manager = ConfigManager()


def get_config_manager() -> ConfigManager:
    """Returns the only manager of this process."""
    return _manager


def initialize_config(config_file: str | None = None, **variables: object) -> None:
    """See :meth:`ConfigManager.initialize`."""
    _manager.initialize(config_file, **variables)


def get_config() -> ExporterConfig:
    """Returns the settings as attributes."""
    return _manager.get_config()


def cleanup_config() -> None:
    """See :meth:`ConfigManager.cleanup`."""
    _manager.cleanup()
