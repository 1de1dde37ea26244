"""Guards, each of which owns a process, a port and a directory, and functions that read what these processes publish.

A guard is a context manager: its process runs inside the `with`; afterwards nothing of it is left, also after an error.

    with RedisServer() as redis, Gunicorn("apps.plain:app", redis=redis) as gunicorn:
        gunicorn.get("/")
        eventually(lambda: scrape(gunicorn.metrics_url).sum("gunicorn_worker_requests_total"), equals=1)
"""

from harness.eventually import eventually
from harness.exporter import Exporter
from harness.gunicorn import Gunicorn
from harness.load import Load
from harness.network import own_network
from harness.ports import free_port
from harness.prometheus import Prometheus
from harness.recorder import Recorder
from harness.redis import RedisServer
from harness.scrape import Scrape, scrape
from harness.venvs import Venv

__all__ = [
    "Exporter",
    "Gunicorn",
    "Load",
    "Prometheus",
    "Recorder",
    "RedisServer",
    "Scrape",
    "Venv",
    "eventually",
    "free_port",
    "own_network",
    "scrape",
]
