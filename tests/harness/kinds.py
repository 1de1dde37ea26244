"""Worker classes, and the environments in which they are tested."""

import json
import os
from functools import cache
from typing import NamedTuple

from harness.venvs import Venv

WSGI, ASGI = "apps.shapes:app", "apps.shapes_asgi:app"


class Kind(NamedTuple):
    """A worker class in one environment."""

    worker: str
    venv: str

    def __str__(self) -> str:
        return f"{self.worker}-{self.venv}"

    @property
    def worker_class(self) -> str:
        """The name that gunicorn gets."""
        return f"gunicorn_prometheus_exporter.Prometheus{self.worker}"

    @property
    def gunicorn(self) -> int:
        """The first number of its version."""
        return _facts(self.venv)[0]

    @property
    def is_asgi(self) -> bool:
        """Whether the application is an ASGI application."""
        return self.worker in ("ASGIWorker", "UvicornWorker")

    @property
    def is_tornado(self) -> bool:
        """Whether tornado's own server does the work. It collects a WSGI response before it sends any of it."""
        return self.worker == "TornadoWorker"

    @property
    def keeps(self) -> bool:
        """Whether the worker keeps connections open."""
        return self.worker != "Worker"

    @property
    def app(self) -> str:
        """The application that has every shape of request."""
        return ASGI if self.is_asgi else WSGI


_SLICE = [
    Kind("Worker", "frameworks"),
    Kind("ThreadWorker", "frameworks"),
    Kind("GeventWorker", "frameworks"),
    Kind("TornadoWorker", "frameworks"),
    Kind("ASGIWorker", "frameworks"),
    Kind("UvicornWorker", "frameworks"),
    Kind("Worker", "gunicorn-21.2"),
    Kind("ThreadWorker", "gunicorn-21.2"),
    Kind("ThreadWorker", "gunicorn-23.0"),
    Kind("EventletWorker", "gunicorn-23.0"),
]


def kinds() -> list[Kind]:
    """Returns a few of all; if `make test-matrix` names an environment, every class that exists in it."""
    venv = os.environ.get("HARNESS_VENV")
    if venv is None:
        return _SLICE
    return [Kind(worker, venv) for worker in _possible(venv)]


def _possible(venv: str) -> list[str]:
    gunicorn, modules = _facts(venv)
    possible = {
        "Worker": True,
        "ThreadWorker": True,
        "GeventWorker": "gevent" in modules,
        "EventletWorker": "eventlet" in modules and gunicorn < 26,
        "TornadoWorker": "tornado" in modules,
        "ASGIWorker": gunicorn >= 24,
        "UvicornWorker": "uvicorn_worker" in modules,
    }
    return [worker for worker, is_possible in possible.items() if is_possible]


@cache
def _facts(venv: str) -> tuple[int, list[str]]:
    gunicorn, modules = json.loads(Venv(venv).run("-c", _FACTS))
    return gunicorn, modules


_FACTS = """
import gunicorn, importlib.util, json
found = [name for name in ("gevent", "eventlet", "tornado", "uvicorn_worker") if importlib.util.find_spec(name)]
print(json.dumps([gunicorn.version_info[0], found]))
"""
