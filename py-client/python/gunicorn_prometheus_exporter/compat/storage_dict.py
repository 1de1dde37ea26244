"""Values in a Redis hash, separate for each process: the storage protocol, and the classes built on it.

It works as in the package before this one, with one round trip for each write, for code that uses it directly.
Metrics of workers do not pass through it: they are in the exporter's registry, which
:class:`RedisMultiProcessCollector` shows as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from prometheus_client import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from .. import config, pages
from .client import client_of_settings

__all__ = [
    "CleanupUtilsMixin",
    "RedisClient",
    "RedisMultiProcessCollector",
    "RedisStorageClient",
    "RedisStorageDict",
    "RedisValue",
    "RedisValueClass",
    "StorageDictProtocol",
    "cleanup_process_keys_for_pid",
    "get_redis_value_class",
    "mark_process_dead_redis",
    "redis_key",
]

_SEPARATOR = "\x1f"


class RedisClient(Protocol):
    """The methods that a client needs; ``redis.Redis`` has them."""

    def hget(self, name: str, key: str, /) -> Any: ...
    def hset(self, name: str, key: str, value: str, /) -> Any: ...
    def hgetall(self, name: str, /) -> Any: ...
    def hdel(self, name: str, /, *keys: Any) -> Any: ...
    def execute_command(self, /, *words: Any) -> Any: ...


class StorageDictProtocol(Protocol):
    """A store of values and the times at which they were set, by key (see :func:`redis_key`)."""

    def read_value(self, key: str, metric_type: str = ..., multiprocess_mode: str = ...) -> tuple[float, float]:
        """Returns value and time; zeros if there is none."""

    def write_value(
        self, key: str, value: float, timestamp: float, metric_type: str = ..., multiprocess_mode: str = ...
    ) -> None:
        """Writes value and time."""


def redis_key(
    metric_name: str, name: str, labelnames: Iterable[str], labelvalues: Iterable[str], help_text: str
) -> str:
    """Returns the key of a sample: a JSON list of metric, sample, labels and help, in ``prometheus_client``'s form."""
    labels = dict(zip(labelnames, labelvalues, strict=True))
    return json.dumps([metric_name, name, labels, help_text], sort_keys=True)


class RedisStorageDict:
    """A :class:`StorageDictProtocol` in one Redis hash, ``<prefix>:storage``."""

    def __init__(self, redis_client: RedisClient, key_prefix: str | None = None) -> None:
        self._redis = redis_client
        self._hash = f"{key_prefix or _default_prefix()}:storage"

    def read_value(self, key: str, metric_type: str = "counter", multiprocess_mode: str = "") -> tuple[float, float]:
        """Returns what this process has written."""
        found = self._redis.hget(self._hash, _field(key, metric_type, multiprocess_mode))
        return _pair(found) if found is not None else (0.0, 0.0)

    def write_value(
        self, key: str, value: float, timestamp: float, metric_type: str = "counter", multiprocess_mode: str = ""
    ) -> None:
        """Writes it, in one round trip."""
        self._redis.hset(self._hash, _field(key, metric_type, multiprocess_mode), f"{value!r} {timestamp!r}")

    def read_all_values(self) -> Iterator[tuple[str, float, float]]:
        """Yields key, value and time of every process."""
        for field, pair in self._fields():
            yield field[3], *pair

    def ensure_metadata(self, _key: str, _typ: str = "counter", _multiprocess_mode: str = "all") -> None:
        """Does nothing: type and mode are stored beside each value."""

    def cleanup_process(self, pid: int) -> None:
        """Removes what only a living process has; counts stay."""
        for field, _ in self._fields():
            if field[2] == str(pid) and field[0] == "gauge" and field[1].startswith("live"):
                self._redis.hdel(self._hash, _SEPARATOR.join(field))

    def families(self) -> list[Metric]:
        """Returns the families of all processes, aggregated by the rules of ``prometheus_client``."""
        found: dict[str, Any] = {}
        for (metric_type, mode, pid, key), (value, timestamp) in self._fields():
            metric_name, name, labels, help_text = json.loads(key)
            metric: Any = found.setdefault(metric_name, Metric(metric_name, help_text, metric_type))
            label_pairs = tuple(sorted(labels.items()))
            if metric_type == "gauge":
                metric._multiprocess_mode = mode or "all"
                label_pairs += (("pid", pid),)
            metric.add_sample(name, label_pairs, value, timestamp)
        return list(MultiProcessCollector._accumulate_metrics(found, True))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Does nothing: the client belongs to the caller."""

    def _fields(self) -> Iterator[tuple[tuple[str, str, str, str], tuple[float, float]]]:
        for field, pair in self._redis.hgetall(self._hash).items():
            metric_type, mode, pid, key = _text(field).split(_SEPARATOR, 3)
            yield (metric_type, mode, pid, key), _pair(pair)


class RedisValue:
    """A number in a :class:`RedisStorageDict`, as a value of ``prometheus_client``."""

    _multiprocess = True

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Iterable[str],
        labelvalues: Iterable[str],
        help_text: str,
        multiprocess_mode: str = "",
        redis_client: RedisClient | None = None,
        redis_key_prefix: str | None = None,
        **_kwargs: Any,
    ) -> None:
        if redis_client is None:
            raise ValueError("redis_client must be provided")
        self._storage = RedisStorageDict(redis_client, redis_key_prefix)
        self._key = redis_key(metric_name, name, labelnames, labelvalues, help_text)
        self._kind = (typ, multiprocess_mode)
        self._value, self._timestamp = self._storage.read_value(self._key, *self._kind)
        self._write()

    def inc(self, amount: float = 1) -> None:
        """Adds to the value."""
        self._value, self._timestamp = self._value + amount, 0.0
        self._write()

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Sets the value."""
        self._value, self._timestamp = value, timestamp or 0.0
        self._write()

    def get(self) -> float:
        """Returns this process' value."""
        return self._value

    def get_timestamp(self) -> float:
        """Returns the time of the last set, if one was given."""
        return self._timestamp

    def set_exemplar(self, _exemplar: Any) -> None:
        """Does nothing: this store has no place for exemplars."""

    def get_exemplar(self) -> None:
        """Returns none."""

    def _write(self) -> None:
        self._storage.write_value(self._key, self._value, self._timestamp, *self._kind)


def get_redis_value_class(redis_client: RedisClient, redis_key_prefix: str | None = None) -> type[RedisValue]:
    """Returns a value class for ``prometheus_client.values.ValueClass``."""

    class ConfiguredRedisValue(RedisValue):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.update(redis_client=redis_client, redis_key_prefix=redis_key_prefix)
            super().__init__(*args, **kwargs)

    return ConfiguredRedisValue


class RedisValueClass:
    """A value class as a callable."""

    def __init__(self, redis_client: RedisClient, key_prefix: str | None = None) -> None:
        self._class = get_redis_value_class(redis_client, key_prefix)

    def __call__(self, *args: Any, **kwargs: Any) -> RedisValue:
        """Makes a value."""
        return self._class(*args, **kwargs)


class RedisStorageClient:
    """A client and its store."""

    def __init__(self, redis_client: RedisClient, key_prefix: str | None = None) -> None:
        self._redis = redis_client
        self._prefix = key_prefix

    def get_value_class(self) -> type[RedisValue]:
        """See :func:`get_redis_value_class`."""
        return get_redis_value_class(self._redis, self._prefix)

    def cleanup_process_keys(self, pid: int) -> None:
        """Removes what only that process had while it lived; counts stay."""
        RedisStorageDict(self._redis, self._prefix).cleanup_process(pid)

    def get_client(self) -> RedisClient:
        """Returns the client."""
        return self._redis


class RedisMultiProcessCollector:
    """The shared registry, and what is in :class:`RedisStorageDict`, as one collector.

    Without a client, one is made from the settings, by the ``redis`` package.
    """

    def __init__(
        self, registry: Any, redis_client: RedisClient | None = None, redis_key_prefix: str | None = None
    ) -> None:
        if redis_client is None:
            redis_client = client_of_settings()
        if redis_client is None:
            raise ValueError("redis_client must be provided: no Redis in the settings, or no package 'redis'")
        self._redis = redis_client
        self._prefix = redis_key_prefix or _default_prefix()
        if registry:
            registry.register(self)

    def describe(self) -> list[Metric]:
        """Returns nothing: the families are unknown before Redis is asked."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yields everything that is shared."""
        page = self._redis.execute_command("METRICS.EXPOSE", f"{self._prefix}:metrics", "FORMAT", "OPENMETRICS")
        yield from pages.families(_text(page))
        yield from RedisStorageDict(self._redis, self._prefix).families()


def cleanup_process_keys_for_pid(pid: int, redis_client: RedisClient, redis_key_prefix: str | None = None) -> None:
    """See :meth:`RedisStorageClient.cleanup_process_keys`. For workers the exporter does this by itself."""
    RedisStorageClient(redis_client, redis_key_prefix).cleanup_process_keys(pid)


def mark_process_dead_redis(
    pid: int, redis_client: RedisClient | None = None, redis_key_prefix: str | None = None
) -> None:
    """Does the same; without a client that process has nothing in a :class:`RedisStorageDict`."""
    if redis_client is not None:
        cleanup_process_keys_for_pid(pid, redis_client, redis_key_prefix)


class CleanupUtilsMixin:
    """The two functions above as methods."""

    cleanup_process_keys_for_pid = staticmethod(cleanup_process_keys_for_pid)
    mark_process_as_dead = staticmethod(mark_process_dead_redis)


def _default_prefix() -> str:
    settings: dict[str, Any] = json.loads(config.load().to_json())
    return str(settings["redis"]["key_prefix"])


def _field(key: str, metric_type: str, mode: str) -> str:
    return _SEPARATOR.join((metric_type, mode, str(os.getpid()), key))


def _pair(text: Any) -> tuple[float, float]:
    value, timestamp = _text(text).split()
    return float(value), float(timestamp)


def _text(bytes_or_text: Any) -> str:
    return bytes_or_text.decode() if isinstance(bytes_or_text, bytes) else str(bytes_or_text)
