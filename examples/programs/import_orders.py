"""A Django management command with metrics, in one file; python import_orders.py 17."""

import sys
from argparse import ArgumentParser
from typing import Any

import django
from django.conf import settings
from django.core.management import BaseCommand
from prometheus_client import Counter, Gauge

from gunicorn_prometheus_exporter import setup_metrics

ROWS = Counter("shop_imported_rows", "Rows that were imported")
LAST = Gauge("shop_import_last_success_seconds", "When an import was done", multiprocess_mode="mostrecent")


class Command(BaseCommand):
    """In an application this class is in management/commands, and runs as `manage.py import_orders`."""

    help = "Imports orders."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Adds the argument: the number of orders."""
        parser.add_argument("rows", type=int)

    def handle(self, *_: Any, **options: Any) -> None:
        """With Redis, the counts stay there when the command has ended."""
        setup_metrics()
        for _number in range(options["rows"]):
            ROWS.inc()
        LAST.set_to_current_time()


if __name__ == "__main__":
    settings.configure()
    django.setup()
    Command().run_from_argv(["manage.py", "import_orders", *sys.argv[1:]])
