"""Makes ``generate_latest()`` and ``MultiProcessCollector`` return the metrics of all processes of the instance.

They ask the exporter, which has just read every store, for the page of ``/metrics/instance``. An application that
serves its metrics itself, as with ``prometheus_client``'s files, shows the same numbers whichever worker answers. A
registry of the application's own that was not passed to ``MultiProcessCollector`` shows this process' values. If the
exporter does not answer within a second, this process' own numbers are shown, and the failure is counted.
"""

from __future__ import annotations

import functools
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import prometheus_client
from prometheus_client import REGISTRY, Metric, exposition, metrics, multiprocess
from prometheus_client.openmetrics import exposition as openmetrics

from . import _native, imports, pages, values

_LIMIT_SECONDS = 1.0
_END = b"# EOF\n"

#: The exporter's address; ``None`` without an exporter, and then nothing is changed.
address: bytes | None = None
_is_installed = False


def install(answers_at: bytes | None) -> None:
    """Makes this process and its children ask at that address from now on."""
    global address, _is_installed
    address = answers_at
    if _is_installed:
        return
    _is_installed = True
    latest = exposition.generate_latest
    exposition.generate_latest = prometheus_client.generate_latest = _merging(latest)
    openmetrics.generate_latest = _merging(openmetrics.generate_latest)
    _replace_collector(multiprocess.MultiProcessCollector)
    multiprocess.mark_process_dead = _ignoring_no_path(multiprocess.mark_process_dead)
    imports.after("prometheus_flask_exporter.multiprocess", _ask_for_no_directory)


def families(*, created: bool = False) -> list[Metric]:
    """Returns the families of this instance; raises ``OSError`` or ``ValueError`` if the exporter does not answer.

    ``created``: whether to include start times, which ``prometheus_client`` shows for its own registry and not for
    several processes.
    """
    return list(pages.families(_fetch().decode(), created=created))


class MergedRegistry:
    """The families of a registry, with the numbers of all processes.

    The default registry also has families that only other processes have declared so far: libraries, and modules that
    are imported late, declare metrics at the first request, which this process may not have had.
    """

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Yields the families. Those that only this process has, such as those about the process, keep its numbers."""
        try:
            created = getattr(metrics, "_use_created", False)
            everywhere = {family.name: family for family in families(created=created)}
        except (OSError, ValueError) as error:
            _native.report_failure("generate_latest", str(error))
            yield from self._registry.collect()
            return
        only_names = getattr(self._registry, "_name_set", None)
        for own in self._registry.collect():
            merged = everywhere.pop(own.name, None)
            if merged is None:
                yield own
            else:
                yield from _restricted(merged, only_names)
        if getattr(self._registry, "_registry", self._registry) is REGISTRY:
            apart = values.NAMES_ELSEWHERE | {family.name for family in _native.described()}
            for name, merged in everywhere.items():
                if name not in apart:
                    yield from _restricted(merged, only_names)


class _CollectedRegistry:
    """A registry with a ``MultiProcessCollector``, and possibly the metrics themselves: each family once."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Yields the collector's families first."""
        seen = set()
        for family in self._families():
            if family.name not in seen:
                seen.add(family.name)
                yield family

    def _families(self) -> Iterator[Metric]:
        collectors = getattr(self._registry, "_collector_to_names", None)
        if collectors is None:  # only some names of it
            yield from self._registry.collect()
            return
        for collector in sorted(collectors, key=lambda one: not isinstance(one, multiprocess.MultiProcessCollector)):
            yield from collector.collect()


def _restricted(family: Any, only_names: Any) -> Iterator[Metric]:
    found = family._restricted_metric(only_names) if only_names else family
    if found:
        yield found


def _merging(original: Callable[..., bytes]) -> Callable[..., bytes]:
    @functools.wraps(original)
    def generate_latest(registry: Any = REGISTRY, *args: Any, **kwargs: Any) -> bytes:
        whole = getattr(registry, "_registry", registry)
        if address is not None and values.is_merged(whole):
            registry = (_CollectedRegistry if _has_collector(whole) else MergedRegistry)(registry)
        return original(registry, *args, **kwargs)

    return generate_latest


def _has_collector(registry: Any) -> bool:
    """Returns whether the registry already has a collector of all processes."""
    collectors = getattr(registry, "_collector_to_names", {})
    return any(isinstance(collector, multiprocess.MultiProcessCollector) for collector in collectors)


def _replace_collector(collector: Any) -> None:
    # Replaces the methods and not the class, which other modules may have imported already.
    original_init, original_collect = collector.__init__, collector.collect

    @functools.wraps(original_init)
    def init(self: Any, registry: Any, path: str | None = None) -> None:
        if address is None:
            original_init(self, registry, path)
            return
        self._path = path
        if registry:
            registry.register(self)

    @functools.wraps(original_collect)
    def collect(self: Any) -> Any:
        if address is None:
            return original_collect(self)
        try:
            return families()
        except (OSError, ValueError) as error:
            _native.report_failure("generate_latest", str(error))
            return _own_families()

    collector.__init__, collector.collect = init, collect


def _own_families() -> Iterator[Metric]:
    for collector in list(getattr(REGISTRY, "_collector_to_names", {})):
        if not isinstance(collector, multiprocess.MultiProcessCollector):
            yield from collector.collect()


def _ignoring_no_path(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def mark_process_dead(pid: int, path: str | None = None) -> None:
        """Leaves processes to the exporter, which notices every end; calls the original only if there are files."""
        if path or "PROMETHEUS_MULTIPROC_DIR" in os.environ or "prometheus_multiproc_dir" in os.environ:
            original(pid, path)

    return mark_process_dead


def _ask_for_no_directory(module: Any) -> None:
    """Removes the check by which prometheus-flask-exporter's classes for Gunicorn require the directory."""
    module._check_multiproc_env_var = lambda: None
    module.pc_mark_process_dead = multiprocess.mark_process_dead


def _fetch() -> bytes:
    if address is None:
        raise OSError("this process has no exporter to ask")
    deadline = time.monotonic() + _LIMIT_SECONDS
    parts: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as exporter:
        exporter.settimeout(_LIMIT_SECONDS)
        exporter.connect(address)
        while True:
            exporter.settimeout(max(deadline - time.monotonic(), 0.001))
            part = exporter.recv(1 << 16)
            if not part:
                break
            parts.append(part)
    page = b"".join(parts)
    if not page.endswith(_END):
        raise OSError(f"the exporter's page is cut off after {len(page)} bytes")
    return page
