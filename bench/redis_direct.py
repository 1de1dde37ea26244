"""Single commands, memory, and other ways to keep metrics in Redis, each beside ours in the same run."""

import time
from collections.abc import Callable
from typing import Any

import redis

from bench.redis_commands import KEY, PIPELINED, Pipe, Side, Writer, expose_pages
from bench.table import Row, median, nanoseconds
from harness import RedisServer
from harness.batch import Batch, Buckets, counter, gauge, histogram

LABELS = ("LABELS", "3", "method", "GET", "route", "/orders/<int:id>", "status", "200")
# How an application without the module keeps many metrics: one hash for each series.
COLLECT = """
local page, cursor = {}, "0"
repeat
  local found = redis.call("SCAN", cursor, "MATCH", "series:*", "COUNT", 1000)
  cursor = found[1]
  for _, key in ipairs(found[2]) do
    local pair = redis.call("HMGET", key, "labels", "value")
    page[#page + 1] = "bench_requests_total{" .. pair[1] .. "} " .. pair[2]
  end
until cursor == "0"
return table.concat(page, "\\n")
"""


def measure(quick: bool) -> list[Row]:
    """Runs all measurements of this file."""
    return [
        *_single(5 if quick else 30),
        *_memory(10_000 if quick else 200_000),
        *_pages(2_000 if quick else 100_000),
        *_lines(2_000 if quick else 100_000, 3 if quick else 20),
    ]


def _single(rounds: int) -> list[Row]:
    def side(*words: str, lines: int) -> Callable[[Pipe], Side]:
        commands = [words] * PIPELINED
        return lambda pipe: Side(words[0].lower(), PIPELINED, lambda: pipe.prepare(commands, lines))

    makers = {
        "INC": side("METRICS.INC", KEY, "plain", lines=2),
        "INC, three labels": side("METRICS.INC", KEY, "labelled", *LABELS, lines=2),
        "HINCRBYFLOAT": side("HINCRBYFLOAT", "hash", "field", "1", lines=2),
        "HINCRBY": side("HINCRBY", "numbers", "field", "1", lines=1),
    }
    with RedisServer() as server:
        pipe = Pipe(server)
        sides = {name: make(pipe) for name, make in makers.items()}
        for _ in range(rounds):
            for one in sides.values():
                one.round(server)
        pipe.close()

    def ratio(ours: str, theirs: str) -> str:
        pairs = zip(sides[theirs].server, sides[ours].server, strict=True)
        return f"{median([peer / own for peer, own in pairs])} ×"

    cpu = {name: nanoseconds(median(one.server).value) for name, one in sides.items()}
    return [
        Row("INC ÷ HINCRBYFLOAT, CPU", ratio("INC", "HINCRBYFLOAT"), f"{cpu['INC']}, {cpu['HINCRBYFLOAT']}", "≥ 1.4 ×"),
        Row("INC ÷ HINCRBY, CPU", ratio("INC", "HINCRBY"), f"HINCRBY {cpu['HINCRBY']}", "≥ 0.9 ×"),
        Row("the same with three labels", ratio("INC, three labels", "HINCRBY"), cpu["INC, three labels"], "≥ 0.7 ×"),
    ]


def _memory(series: int) -> list[Row]:
    """Measures counters whose name and labels are 100 bytes; then a second writer of the same counters."""
    family = counter("bench_requests")
    used = []
    with RedisServer() as server:
        client = redis.Redis(unix_socket_path=str(server.socket), socket_timeout=120)
        for writer in (None, "a", "b"):
            if writer is not None:
                _define(client, writer, series, lambda batch, number: batch.define(family, _labels(number), 1.0))
            used.append(int(client.info("memory")["used_memory"]))
        for number in range(series):
            if number % 1000 == 0:
                pipeline = client.pipeline(transaction=False)
            labels = f'endpoint="/api/v1/customers/orders/{number:08}/positions",method="GET",zone="eu"'
            pipeline.hset("plain", f"bench_requests_total{{{labels}}}", "1")
            if number % 1000 == 999:
                pipeline.execute()
        plain = (int(client.info("memory")["used_memory"]) - used[2]) / series
        client.close()
    first, second = ((used[at + 1] - used[at]) / series for at in (0, 1))
    return [
        Row(f"memory of a counter, {series:,} series", f"{first:.0f} B", f"a field of a hash {plain:.0f} B", "≤ 180 B"),
        Row("and of each more writer of it", f"{second:.0f} B", "", "≤ 20 B"),
    ]


def _pages(series: int) -> list[Row]:
    rows, took = [], {}
    with RedisServer() as server:
        client = redis.Redis(unix_socket_path=str(server.socket), socket_timeout=120)
        pipe = Pipe(server)
        Writer(client, pipe).define(series)
        for begin in range(0, series, 1000):
            pipeline = client.pipeline(transaction=False)
            for number in range(begin, begin + 1000):
                labels = f'endpoint="/api/v1/customers/<int:id>/orders/{number}",method="GET",status="200",zone="eu-1"'
                pipeline.hset(f"series:{number}", mapping={"labels": labels, "value": "1"})
            pipeline.execute()

        def scan() -> None:
            cursor, page = 0, []
            while True:
                cursor, keys = client.scan(cursor, "series:*", 1000)
                pipeline = client.pipeline(transaction=False)
                for key in keys:
                    pipeline.hgetall(key)
                page += [b"bench{%b} %b" % (one[b"labels"], one[b"value"]) for one in pipeline.execute()]
                if cursor == 0:
                    return

        ways: dict[str, Callable[[], object]] = {
            "ours": lambda: expose_pages(client),
            "SCAN and HGETALL": scan,
            "Lua": lambda: client.eval(COLLECT, 0),
        }
        for name, work in ways.items():
            times = []
            for _ in range(3):
                began = time.perf_counter_ns()
                work()
                times.append(float(time.perf_counter_ns() - began))
            took[name] = median(times).value
        pipe.close()
        client.close()
    ours = took.pop("ours")
    for name, theirs in took.items():
        what = f"a page of {series:,} series beside {name}"
        rows.append(Row(what, nanoseconds(ours), nanoseconds(theirs), f"{theirs / ours:.0f} × faster"))
    return rows


def _lines(lines: int, rounds: int) -> list[Row]:
    """Measures pages of numbers with many digits, and pages of histograms."""
    bounds = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10"]

    def floats(batch: Batch, number: int) -> None:
        batch.define(gauge("bench_ratio"), _labels(number), (number + 1) / 7)

    def histograms(batch: Batch, number: int) -> None:
        batch.define(histogram("bench_seconds"), _labels(number), Buckets(number / 7, [number] * 12, bounds))

    rows = []
    budgets = {"floats": (floats, 1, "≤ 30 ns"), "histograms": (histograms, len(bounds) + 3, "≤ 20 ns")}
    for name, (define, each, budget) in budgets.items():
        with RedisServer() as server:
            client = redis.Redis(unix_socket_path=str(server.socket), socket_timeout=120)
            _define(client, "bench", lines // each, define)
            side = Side("metrics.expose", lines // each * each, lambda: lambda: expose_pages(client))
            for _ in range(rounds):
                side.round(server)
            client.close()
        cost = nanoseconds(median(side.in_command).value)
        rows.append(Row(f"EXPOSE per line of {lines:,}, {name}", cost, "in command", budget))
    return rows


def _labels(number: int) -> dict[str, str]:
    return {"endpoint": f"/api/v1/customers/orders/{number:08}/positions", "method": "GET", "zone": "eu"}


def _define(client: Any, writer: str, series: int, define: Callable[[Batch, int], object]) -> None:
    """Sends the full state of one writer."""
    _, epoch, *_ = client.execute_command("METRICS.PUSH", KEY, writer, 1, Batch().encode())
    for seq, begin in enumerate(range(0, series, 1000), 2):
        last = begin + 1000 >= series
        batch = Batch.full(last=last) if begin == 0 else Batch.more(last=last)
        for number in range(begin, min(begin + 1000, series)):
            define(batch, number)
        client.execute_command("METRICS.PUSH", KEY, writer, seq, batch.encode(), "EPOCH", epoch)
