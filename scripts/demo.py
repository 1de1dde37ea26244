"""The whole system in one go: two gunicorn instances of examples/flask_app, one set of metrics.

Starts redis-server with the module and the two instances on free ports, sends them real requests, some of which fail,
and checks that the page counts exactly what was sent. Ends with exit code 1 if it does not.

    scripts/demo.py              goes on with some requests until Ctrl-C
    scripts/demo.py --once       ends by itself
    scripts/demo.py --embedded   without Redis: each instance has its own page
"""

import argparse
import contextlib
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from harness import Gunicorn, RedisServer, Scrape, eventually, scrape  # noqa: E402

EXAMPLE = ROOT / "examples" / "flask_app"
ROUNDS = 40
# The requests of one customer: method, path, order, and the expected status.
CUSTOMER: Sequence[tuple[str, str, dict[str, int] | None, int]] = (
    ("GET", "/", None, 200),
    ("GET", "/books/1", None, 200),
    ("GET", "/books/7", None, 404),
    ("POST", "/orders", {"book": 2, "copies": 3}, 201),
    ("POST", "/orders", {"book": 9}, 400),
    ("GET", "/broken", None, 500),
)


def main() -> int:
    """Runs the demo; the exit code."""
    arguments = parse_arguments()
    with contextlib.ExitStack() as stack:
        redis = None if arguments.embedded else stack.enter_context(RedisServer(tcp=True))
        shops = [stack.enter_context(shop(redis)) for _ in range(2)]
        statuses = visit(shops)
        try:
            pages = eventually(lambda: complete(shops, redis, sum(statuses.values())), within=20)
        except AssertionError as reason:
            print(f"the page does not count what was sent: {reason}")
            pages = [scrape(one.metrics_url) for one in shops[: 2 if redis is None else 1]]
        show(pages)
        ok = check(pages, statuses)
        print_urls(shops, redis)
        if not arguments.once and ok:
            go_on(shops)
    return 0 if ok else 1


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Two gunicorn instances that share one set of metrics.")
    parser.add_argument("--once", action="store_true", help="end after the check")
    parser.add_argument("--embedded", action="store_true", help="without Redis")
    return parser.parse_args()


def shop(redis: RedisServer | None) -> Gunicorn:
    """One instance of the example, with the configuration it ships and two workers."""
    config = (EXAMPLE / "gunicorn.conf.py").read_text()
    return Gunicorn("shop:app", workers=2, config=config, redis=redis, app_directory=EXAMPLE)


def visit(shops: Sequence[Gunicorn]) -> Counter[int]:
    """Sends the requests of all customers to the shops in turn; returns the number of answers by status."""
    print(f"sending {ROUNDS * len(CUSTOMER)} requests to {len(shops)} instances of examples/flask_app ...")
    statuses: Counter[int] = Counter()
    for turn in range(ROUNDS):
        for method, path, order, expected in CUSTOMER:
            answer = request(shops[turn % len(shops)], method, path, order)
            if answer != expected:
                raise SystemExit(f"{method} {path} answered {answer}, expected {expected}")
            statuses[answer] += 1
    return statuses


def request(to: Gunicorn, method: str, path: str, order: dict[str, int] | None) -> int:
    """One request; its status."""
    if order is None:
        return to.request(method, path).status
    return to.request(method, path, json.dumps(order).encode(), {"Content-Type": "application/json"}).status


def complete(shops: Sequence[Gunicorn], redis: RedisServer | None, sent: int) -> list[Scrape]:
    """The page, or without Redis the two pages, once every request is on it."""
    pages = [scrape(one.metrics_url) for one in (shops[:1] if redis else shops)]
    counted = total(pages, "gunicorn_worker_requests_total")
    assert counted == sent, f"{counted:g} requests of {sent}"
    return pages


def total(pages: Sequence[Scrape], name: str, **labels: str) -> float:
    """The sum of a sample over the pages."""
    return sum(page.sum(name, **labels) for page in pages)


HIGHLIGHTS = (
    "gunicorn_worker_requests_total",
    "gunicorn_worker_request_duration_seconds_count",
    "gunicorn_worker_error_handling_total",
    "gunicorn_worker_memory_bytes",
    "gunicorn_worker_state",
    "shop_orders_total",
    "shop_order_quantity_bucket",
    "shop_order_quantity_sum",
    "shop_last_order_copies",
)


def show(pages: Sequence[Scrape]) -> None:
    """Prints some lines of each page."""
    for page in pages:
        lines = page.body.splitlines()
        print(f"\n/metrics: {len(page.families)} families, {len(page.all_samples)} samples, for example\n")
        for line in lines:
            if line.startswith(HIGHLIGHTS):
                print(f"  {line}")


def check(pages: Sequence[Scrape], statuses: Counter[int]) -> bool:
    """Compares the pages with the requests that were sent, and prints a table; returns whether all counts are right."""
    sent = sum(statuses.values())
    orders = statuses[201]
    failed = sum(number for status, number in statuses.items() if status >= 400)
    rows = (
        ("requests sent", sent, total(pages, "gunicorn_worker_requests_total")),
        ("requests timed", sent, total(pages, "gunicorn_worker_request_duration_seconds_count")),
        ("responses measured", sent, total(pages, "gunicorn_worker_response_size_bytes_count")),
        ("errors seen", failed, total(pages, "gunicorn_worker_error_handling_total")),
        ("orders taken", orders, total(pages, "shop_orders_total")),
        ("orders observed", orders, total(pages, "shop_order_quantity_count")),
        ("copies ordered", 3 * orders, total(pages, "shop_order_quantity_sum")),
    )
    print(f"\n  {'':20} {'sent':>8} {'counted':>8}")
    for what, expected, counted in rows:
        print(f"  {what:20} {expected:>8} {counted:>8g}  {'ok' if expected == counted else 'WRONG'}")
    print(f"\n  statuses: {', '.join(f'{number} × {status}' for status, number in sorted(statuses.items()))}")
    return all(expected == counted for _, expected, counted in rows)


def print_urls(shops: Sequence[Gunicorn], redis: RedisServer | None) -> None:
    """Prints the addresses of everything that runs, the live page first."""
    print(f"\n  live page      {shops[0].metrics_url.removesuffix('metrics')}   open this one in a browser\n")
    for number, one in enumerate(shops, 1):
        print(f"  application {number}  {one.base_url}/")
        print(f"  metrics {number}      {one.metrics_url}")
    if redis is not None:
        print(f"  redis          redis-cli -p {redis.port} METRICS.EXPOSE gunicorn:metrics")
    print()


def go_on(shops: Sequence[Gunicorn]) -> None:
    """Sends a few requests each second until Ctrl-C or SIGTERM, so that the live page shows something."""
    print("  Some requests go on. Ctrl-C ends it.", flush=True)
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    chance = random.Random(1)
    while signal.sigtimedwait(ends, chance.uniform(0.02, 0.3)) is None:
        # Most customers look; few order, and fewer meet the defect.
        method, path, order, _ = chance.choices(CUSTOMER, weights=(40, 40, 3, 15, 2, 1))[0]
        with contextlib.suppress(OSError):
            request(chance.choice(shops), method, path, order)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
