"""A Celery worker and a management command: the programs of examples/programs."""

import os
import signal
import subprocess

from harness import Exporter, RedisServer, Venv, eventually, scrape
from harness.exporter import redis_environment
from harness.paths import ROOT
from harness.ports import free_port
from harness.process import clean_environment

PROGRAMS = ROOT / "examples" / "programs"


def environment(redis: RedisServer) -> dict[str, str]:
    """Settings by variables alone, with its own port."""
    return clean_environment(
        {
            **redis_environment(redis),
            "PROMETHEUS_METRICS_PORT": str(free_port()),
            "PROMETHEUS_BIND_ADDRESS": "127.0.0.1",
            "CELERY_BROKER": f"redis://127.0.0.1:{redis.port}/1",
        }
    )


def test_counts_of_the_processes_of_a_celery_worker_are_on_the_page() -> None:
    """While it runs, and after it has ended."""
    with RedisServer(tcp=True) as redis, Exporter(redis=redis) as exporter:
        python = str(Venv.frameworks().bin / "python")
        settings = environment(redis)
        words = [python, "-m", "celery", "-A", "tasks", "worker", "--concurrency=2", "--without-mingle"]
        worker = subprocess.Popen(words, cwd=PROGRAMS, env=settings, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            send = "from tasks import send_mail\nfor n in range(40): send_mail.delay('invoice' if n % 4 else 'offer')"
            subprocess.run([python, "-c", send], cwd=PROGRAMS, env=settings, check=True, timeout=60)

            def mails(kind: str) -> float:
                return scrape(exporter.metrics_url).sum("shop_mails_total", kind=kind)

            eventually(lambda: (mails("invoice"), mails("offer")), equals=(30.0, 10.0), within=60)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0
            assert (mails("invoice"), mails("offer")) == (30, 10)
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()


def test_counts_of_a_management_command_stay_when_it_has_ended() -> None:
    """It runs twice, and its counts add up."""
    with RedisServer(tcp=True) as redis, Exporter(redis=redis) as exporter:
        for _ in range(2):
            words = [str(Venv.frameworks().bin / "python"), "import_orders.py", "17"]
            subprocess.run(words, cwd=PROGRAMS, env=environment(redis), check=True, timeout=60)
        page = eventually(lambda: scrape(exporter.metrics_url))
        assert page.value("shop_imported_rows_total") == 34
        assert page.value("shop_import_last_success_seconds") > 1.7e9
