"""CPU time of a worker per request, for several ways to measure requests, on the last Gunicorn that all support."""

import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench import peers
from bench.requests import Cost, ask, capacity, rounds_of
from bench.table import Row, median
from harness import Gunicorn, RedisServer, Venv

CLIENTS = 8


def measure(quick: bool) -> list[Row]:
    """Measures the capacity of each worker: the CPU time of a request in a plain worker ÷ that in this one."""
    rounds, requests = (4, 20) if quick else (25, 100)
    rows = []
    for kind in peers.OURS:
        with contextlib.ExitStack() as stack:
            redis = stack.enter_context(RedisServer())
            sides = {
                "plain": _gunicorn(kind),
                "ours": _gunicorn(peers.OURS[kind]),
                "ours, with Redis": _gunicorn(peers.OURS[kind], redis),
                "prometheus_client by hand": peers.by_hand(kind),
                "original package, its files": peers.original(kind),
            }
            for side in sides.values():
                stack.enter_context(side)
            costs = rounds_of(sides, rounds, requests)
            rows += [_row(kind, name, costs) for name in sides if name != "plain"]
            rows.append(_original_with_redis(kind, sides["plain"], rounds, requests))
    return rows


def _original_with_redis(kind: str, plain: Gunicorn, rounds: int, requests: int) -> Row:
    """Measured alone, because it may leave requests without an answer; the row then says so."""
    name = "original package, with Redis"
    with RedisServer(tcp=True, module=None) as redis, peers.original(kind, redis) as gunicorn:
        try:
            costs = rounds_of({"plain": plain, name: gunicorn}, rounds, requests)
        except OSError as error:
            return Row(f"capacity, {kind}, {name}", "stuck", f"one client gets no answer: {error}", "")
        without_answer = _clients_without_answer(gunicorn)
    row = _row(kind, name, costs)
    if without_answer:
        row = row._replace(peer=f"{row.peer}; {without_answer} of {CLIENTS} clients at once get no answer within 5 s")
    return row


def _clients_without_answer(gunicorn: Gunicorn) -> int:
    """Returns the number of clients without an answer, of several that ask at once."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = [clients.submit(ask, gunicorn.port, 100, patience=5.0) for _ in range(CLIENTS)]
        return sum(answer.exception() is not None for answer in answers)


def _gunicorn(worker_class: str, redis: RedisServer | None = None) -> Gunicorn:
    venv = Venv.gunicorn(peers.GUNICORN)
    return Gunicorn("hello:app", venv=venv, worker_class=worker_class, redis=redis, app_directory=peers.HERE)


def _row(kind: str, name: str, costs: Mapping[str, Sequence[Cost]]) -> Row:
    beside = f"CPU {_both(costs, name, 'cpu')}; answer {_both(costs, name, 'answer')}"
    budget = "≥ 1.00" if name.startswith("ours") else ""
    return Row(f"capacity, {kind}, {name}", f"{capacity(costs['plain'], costs[name])}", beside, budget)


def _both(costs: Mapping[str, Sequence[Cost]], name: str, field: str) -> str:
    here, plain = (median([getattr(cost, field) for cost in costs[side]]).value / 1e3 for side in (name, "plain"))
    return f"{here:,.0f} µs, plain {plain:,.0f} µs"
