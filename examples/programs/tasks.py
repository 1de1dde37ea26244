"""A Celery worker with metrics; celery -A tasks worker --concurrency=2."""

import os

from celery import Celery
from celery.signals import worker_init
from prometheus_client import Counter

from gunicorn_prometheus_exporter import setup_metrics

app = Celery("tasks", broker=os.environ.get("CELERY_BROKER", "redis://localhost:6379/1"))
MAILS = Counter("shop_mails", "Mails that were sent", ["kind"])


@worker_init.connect
def measure(**_: object) -> None:
    """Runs in the worker only, before it forks; programs that send tasks import this file too."""
    setup_metrics()


@app.task
def send_mail(kind: str) -> None:
    """Stands for a task that sends a message."""
    MAILS.labels(kind).inc()
