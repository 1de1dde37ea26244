"""A client of the ``redis`` package, for code that talks to Redis itself. The exporter does not use it."""

from __future__ import annotations

import importlib
import json
from typing import Any

from .. import config

__all__ = ["client_of_settings"]


def client_of_settings() -> Any:
    """Returns a client of the ``redis`` package for the one server of the settings; ``None`` without either.

    With Sentinels or a Cluster in the settings, make a client for those yourself.
    """
    if not config.load().redis_enabled:
        return None
    try:
        redis = importlib.import_module("redis")
    except ImportError:
        return None
    loaded = config.load()
    if loaded.redis_url is not None:
        return redis.Redis.from_url(loaded.redis_url)
    settings: dict[str, Any] = json.loads(loaded.to_json())["redis"]
    options: dict[str, Any] = {name: settings[name] for name in ("host", "port", "db", "username")}
    tls = settings["ssl"]
    if tls["enabled"]:
        options.update(
            ssl=True,
            ssl_ca_certs=tls["ca_file"],
            ssl_certfile=tls["cert_file"],
            ssl_keyfile=tls["key_file"],
            ssl_cert_reqs="required" if tls["verify"] else "none",
        )
    return redis.Redis(password=loaded.redis_password, **options)
