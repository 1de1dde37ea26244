"""In Gunicorn's arbiter: wraps its methods once, and keeps stores and exporter in step with workers.

The wrappers never change what the arbiter does, and leave the user's hooks alone. Two properties of Gunicorn shape
them. Up to version 23 it reaps workers inside the handler of SIGCHLD, at any moment: so only copies of ``WORKERS``
are iterated, and no lock is taken. And a worker starts deep inside ``manage_workers`` and ends there, by
``SystemExit``: so the wrappers do nothing on the way out.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

from gunicorn.arbiter import Arbiter

from . import _native, children, client, config, endings, exporter_command, instance_facts

_LOG = logging.getLogger("gunicorn.error")

# The counted reason, by the name of the arbiter's handler.
_SIGNALS = {name: name for name in ("hup", "quit", "int", "term", "ttin", "ttou", "usr1", "usr2", "winch", "chld")}
_SIGNALS["cld"] = "chld"
_ENDING = ("int", "quit", "term")

_PATIENCE_SECONDS = 3.0
# Environment variable for the arbiter that replaces this one (USR2): the socket over which it gets everything.
_HANDOVER = "GUNICORN_EXPORTER_HANDOVER"


class Supervisor:
    """The metrics state of an arbiter. There is one per arbiter process."""

    def __init__(self) -> None:
        # First of all: without an exporter the rest would be useless.
        self.command, self.takes_owner = exporter_command.find()
        self.out_of_memory = endings.OutOfMemory()
        self.settings = config.load()
        self.instance = _new_instance()
        self.warnings: list[str] = []
        self.hints: list[str] = []
        self.workers: dict[int, Any] = {}
        self.began: set[int] = set()
        self.name: str | None = None
        self.without_server = False
        self.signal: str | None = None
        self.is_ready = False
        self.has_stopped = False
        os.register_at_fork(after_in_child=self.instance.forked)
        for reason in dict.fromkeys(_SIGNALS.values()):
            _count_signal(reason, 0)

    def take_slot(self, worker: Any) -> _native.WorkerSlot:
        """Takes, before the fork, the lowest free slot, and memory that outlives the worker."""
        slot = self.instance.take_slot(self._name(worker.cfg, worker.sockets), self.settings)
        self.workers[slot.number] = worker
        return slot

    def read_settings(self, log: Any) -> None:
        """Reads the settings, before the arbiter listens and at HUP. Raises ``ValueError`` with one line."""
        settings = config.load()
        if not (settings.sidecar_mode or self.without_server):
            # Here, because the exporter may have given up the right to read the key.
            try:
                self.instance.read_certificates(settings)
            except ValueError as error:
                raise config.ConfigError(str(error)) from None
        self.settings = settings
        if self.settings.warnings != self.warnings:
            self.warnings = self.settings.warnings
            for warning in self.warnings:
                log.warning("%s", warning)
        if self.settings.hints != self.hints:
            self.hints = self.settings.hints
            for hint in self.hints:
                log.info("%s", hint)

    def supervise(self, arbiter: Any) -> None:
        """Does the pending work whenever the arbiter has checked its workers, at least once a second."""
        self.follow_workers(arbiter)
        if not self.is_ready or self.has_stopped:
            return
        cfg = arbiter.cfg
        gives_up_privileges = (cfg.uid, cfg.gid) != (os.geteuid(), os.getegid())
        self.instance.configure(
            self.command,
            self.takes_owner,
            self._name(cfg, arbiter.LISTENERS),
            self.settings,
            serves=not (self.settings.sidecar_mode or self.without_server),
            owner=(cfg.uid, cfg.gid) if gives_up_privileges else None,
            listeners=instance_facts.listeners(arbiter.LISTENERS),
            build=instance_facts.build(cfg),
        )
        _write_lines(arbiter.log, self.instance.supervise())

    def finish(self, arbiter: Any) -> None:
        """Ends in order once the workers have ended: in a container everything else ends with this process."""
        for pid, worker in list(arbiter.WORKERS.items()):
            endings.look(pid, worker)
        # Gunicorn keeps workers in its table that it did not wait for, above all one that could not boot.
        self.follow_workers(arbiter, running=frozenset())
        if not self.has_stopped:
            self.has_stopped = True
            _write_lines(arbiter.log, self.instance.shut_down(_PATIENCE_SECONDS))

    def follow_workers(self, arbiter: Any, running: frozenset[int] | None = None) -> None:
        """Tells the exporter which workers run, and which have ended."""
        if running is None:
            running = frozenset(id(worker) for worker in list(arbiter.WORKERS.values()))
        for number, worker in list(self.workers.items()):
            if number not in self.began and isinstance(worker.pid, int):
                self.began.add(number)
                self.instance.worker_began(number, worker.pid)
            if id(worker) not in running:
                del self.workers[number]
                if number in self.began:
                    self.began.discard(number)
                    reason = endings.reason(worker, self.instance.last_words(number), self.out_of_memory)
                    endings.count(worker, reason)
                    self.report_end(arbiter.log, worker, reason)
                self.instance.worker_ended(number)
        self.out_of_memory.look()

    def report_end(self, log: Any, worker: Any, reason: str) -> None:
        """Logs what a worker was answering when it ended, and counts those requests."""
        slot = worker.metrics_slot
        try:
            line = self.instance.report_end(
                slot.number,
                slot.worker_id,
                worker.pid,
                reason,
                endings.in_words(worker, reason, self.out_of_memory),
                endings.is_orderly(reason),
                getattr(worker, "metrics_memory", 0),
                self.settings,
            )
        except Exception as error:  # its store has to be given up in any case
            _native.report_failure("arbiter", f"{type(error).__name__}: {error}")
            return
        if line is not None:
            _write_lines(log, [line])

    def hand_over(self, arbiter: Any) -> bool:
        """Prepares another arbiter that will be executed in place of this one; returns whether it gets anything."""
        handover = self.instance.hand_over()
        if handover is not None:
            arbiter.cfg.env_orig[_HANDOVER] = handover
        return handover is not None

    def handed_over(self, arbiter: Any) -> None:
        """Continues in this process after that: the other arbiter lives, or could not be started."""
        arbiter.cfg.env_orig.pop(_HANDOVER, None)
        self.instance.handed_over(arbiter.reexec_pid != 0)

    def _name(self, cfg: Any, listeners: list[Any]) -> str:
        # The name never changes: a worker that restarts after HUP is not a new series.
        if self.name is None:
            self.name = self.settings.instance or instance_facts.default_name(cfg, listeners)
        return self.name


def _new_instance() -> _native.Instance:
    """Continues with the state of the arbiter that this one replaces, or starts with an empty one."""
    handover = os.environ.pop(_HANDOVER, None)
    if handover is not None:
        try:
            return _native.Instance(handover)
        except RuntimeError as error:
            _LOG.error("%s; this arbiter begins anew", error)
    return _native.Instance()


_supervisor: Supervisor | None = None
_has_failed = False


def install() -> None:
    """Prepares this process to be an arbiter with metrics. Starts nothing; a second call changes nothing."""
    global _supervisor, _has_failed
    if _supervisor is not None or _has_failed:
        return
    config.load()
    try:
        supervisor = Supervisor()
        pages = supervisor.instance.open_pages()
    except (RuntimeError, OSError) as error:
        # The application is more important than its metrics.
        _has_failed = True
        _LOG.error("nothing is metered: %s", error)
        return
    _supervisor = supervisor
    client.follow(pages)
    children.follow(supervisor.instance.children_name(), pages)
    _wrap("start", _start)
    _wrap("spawn_worker", _spawn_worker)
    _wrap("manage_workers", _manage_workers)
    _wrap("reload", _reload)
    _wrap("stop", _stop)
    _wrap("reap_workers", _reap_workers)
    _wrap("kill_worker", _kill_worker)
    _wrap("reexec", _reexec)
    for name, reason in _SIGNALS.items():
        _wrap(f"handle_{name}", functools.partial(_handle_signal, reason))


def is_installed() -> bool:
    """Returns whether this process, or one that it was forked from, is an arbiter with metrics."""
    return _supervisor is not None


def read_settings_again() -> None:
    """Reads the settings again at HUP, before the new workers start. Wrong settings change nothing."""
    if _supervisor is None or not _supervisor.is_ready:
        return
    before = _supervisor.settings
    try:
        _supervisor.read_settings(_LOG)
    except (ValueError, OSError) as error:
        _supervisor.settings = before
        _LOG.error("the metrics settings stay what they were: %s", error)


def take_slot(worker: Any) -> _native.WorkerSlot | None:
    """Takes a slot for a worker object in the arbiter; ``None`` (counted, and logged once) if that fails."""
    install()
    if _supervisor is None:
        return None
    try:
        return _supervisor.take_slot(worker)
    except Exception as error:  # the worker runs without metrics
        _native.report_failure("workers", f"a worker is not metered: {error}")
        return None


def serve_elsewhere() -> None:
    """Leaves serving to a sidecar or a standalone exporter; this instance pushes to Redis."""
    install()
    if _supervisor is not None:
        _supervisor.without_server = True


def current_settings() -> _native.Settings:
    """Returns the settings in force: the arbiter's, or those of file and environment."""
    return config.load() if _supervisor is None else _supervisor.settings


def _wrap(name: str, make: Callable[[Any], Any]) -> None:
    original = getattr(Arbiter, name, None)
    if original is None or hasattr(original, "is_metered"):
        return
    wrapper: Any = functools.wraps(original)(make(original))
    wrapper.is_metered = True
    setattr(Arbiter, name, wrapper)


def _start(original: Any) -> Any:
    def start(self: Any) -> Any:
        if _supervisor is not None:
            # Raised here, an error of the settings becomes the one line that Gunicorn prints.
            _supervisor.read_settings(self.log)
        result = original(self)
        if _supervisor is not None:
            # The metrics port opens before the first worker starts.
            _supervisor.is_ready = True
            _guarded(self, "supervise")
        return result

    return start


def _manage_workers(original: Any) -> Any:
    def manage_workers(self: Any) -> Any:
        result = original(self)
        _guarded(self, "supervise")
        return result

    return manage_workers


def _spawn_worker(original: Any) -> Any:
    def spawn_worker(self: Any) -> Any:
        # The child never returns from here; the arbiter may start many, with pauses between them.
        if _supervisor is not None:
            _supervisor.instance.expect_worker(True)
        try:
            result = original(self)
        finally:
            if _supervisor is not None:
                _supervisor.instance.expect_worker(False)
        _guarded(self, "follow_workers")
        return result

    return spawn_worker


def _reload(original: Any) -> Any:
    def reload(self: Any) -> Any:
        result = original(self)
        # The environment may have changed after `setup`, by the setting `raw_env`.
        read_settings_again()
        _guarded(self, "supervise")
        return result

    return reload


def _stop(original: Any) -> Any:
    def stop(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _supervisor is not None and _supervisor.signal is None:
            _supervisor.signal = "halt"
        try:
            return original(self, *args, **kwargs)
        finally:
            _guarded(self, "finish")

    return stop


def _reap_workers(original: Any) -> Any:
    def reap_workers(self: Any) -> Any:
        with endings.statuses_noted(self.WORKERS):
            return original(self)

    return reap_workers


def _kill_worker(original: Any) -> Any:
    def kill_worker(self: Any, pid: int, sig: int) -> Any:
        worker = self.WORKERS.get(pid)
        if worker is not None:
            asked_by = None if _supervisor is None else _supervisor.signal
            endings.note_signal(pid, worker, sig, asked_by)
        return original(self, pid, sig)

    return kill_worker


def _handle_signal(reason: str, original: Any) -> Any:
    def handle(self: Any, *args: Any) -> Any:
        _count_signal(reason, 1)
        # SIGCHLD arrives in the middle of the others; TERM, INT and QUIT lead to a later `stop`.
        if _supervisor is None or reason == "chld":
            return original(self, *args)
        before, _supervisor.signal = _supervisor.signal, reason
        result = original(self, *args)
        if reason not in _ENDING:
            _supervisor.signal = before
        return result

    return handle


def _reexec(original: Any) -> Any:
    def reexec(self: Any) -> Any:
        is_handed_over = False
        if _supervisor is not None and self.reexec_pid == 0 and self.master_pid == 0:
            try:
                is_handed_over = _supervisor.hand_over(self)
            except RuntimeError as error:
                _native.report_failure("arbiter", str(error))
        pid = os.getpid()
        try:
            return original(self)
        finally:
            # The child comes here only if the program could not be executed.
            if is_handed_over and _supervisor is not None and os.getpid() == pid:
                _supervisor.handed_over(self)

    return reexec


def _guarded(arbiter: Any, step: str) -> None:
    """Does our part of an arbiter's method; an error in it must not end the arbiter."""
    if _supervisor is None:
        return
    try:
        getattr(_supervisor, step)(arbiter)
    except Exception as error:  # the application runs on after any error
        _native.report_failure("arbiter", f"{type(error).__name__}: {error}")


def _count_signal(reason: str, by: int) -> None:
    try:
        _native.count_event("gunicorn_master_worker_restart", [("reason", reason)], by)
    except RuntimeError as error:
        _native.report_failure("arbiter", str(error))


def _write_lines(log: Any, lines: list[tuple[str, str]]) -> None:
    for level, text in lines:
        getattr(log, level)("%s", text)
