#!/usr/bin/env python3
"""Writes the dashboards of deploy/grafana/dashboards: `make docs`.

scripts/dashboards.py [directory]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from dashboard_parts import (
    ENDPOINT,
    EXPORTER,
    OVERVIEW,
    RATE,
    SHARE,
    TARGET,
    WORKER,
    WORKERS,
    board,
    heat,
    lines,
    link,
    quantile,
    stat,
    summed,
    targets,
    variable,
)

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Writes the files."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "deploy" / "grafana" / "dashboards"
    for name, one in boards().items():
        (directory / name).write_text(json.dumps(one, indent=2) + "\n")


def boards() -> dict[str, dict[str, Any]]:
    """Returns the dashboards by their file names."""
    return {"gunicorn.json": overview(), "gunicorn-workers.json": workers(), "gunicorn-exporter.json": exporter()}


def overview() -> dict[str, Any]:
    """Health, speed, errors and endpoints."""
    requests, exceptions = "gunicorn_http_requests_total", "gunicorn_http_exceptions_total"
    duration = "gunicorn_http_request_duration_seconds_bucket"
    to_endpoint = link(OVERVIEW, "This endpoint alone", "endpoint")
    failing = f'{ENDPOINT},status=~"5.."'
    failed = f'(sum(rate({requests}{{{ENDPOINT},status=~"5.."}}{RATE})) or vector(0))'
    rows = [
        (
            "At a glance",
            [
                stat(
                    "Requests per second",
                    "Finished requests of all workers.",
                    f"sum(rate({requests}{{{ENDPOINT}}}{RATE}))",
                    "reqps",
                ),
                stat(
                    "Failing",
                    "Share of requests with status 500 or above.",
                    f"{failed} / sum(rate({requests}{{{ENDPOINT}}}{RATE}))",
                    "percentunit",
                    thresholds=SHARE,
                ),
                stat(
                    "95 % answered within",
                    "Estimated from the buckets of the histogram.",
                    quantile(0.95, duration, ENDPOINT),
                    "s",
                ),
                stat(
                    "Workers running",
                    "Workers in the state running.",
                    f'sum(gunicorn_worker_state{{{TARGET},state="running"}})',
                    "short",
                    link=link(WORKERS, "Workers"),
                ),
                stat(
                    "Cut off, last hour",
                    "Requests whose worker ended before the answer.",
                    f"sum(increase(gunicorn_http_aborted_total{{{TARGET}}}[1h])) or vector(0)",
                    "short",
                    link=link(WORKERS, "Workers"),
                ),
            ],
        ),
        (
            "Traffic and latency",
            [
                lines(
                    "Requests by status",
                    "Finished requests.",
                    {"{{status}}": f"sum by (status) (rate({requests}{{{ENDPOINT}}}{RATE}))"},
                    "reqps",
                ),
                lines(
                    "Latency",
                    "Quantiles, estimated from the buckets of the histogram.",
                    {f"{share:.0%}": quantile(share, duration, ENDPOINT) for share in (0.5, 0.95, 0.99)},
                    "s",
                ),
                heat(
                    "Durations",
                    "Number of requests by duration: the darker, the more.",
                    f"sum by (le) (increase({duration}{{{ENDPOINT}}}{RATE}))",
                ),
                lines(
                    "Requests in progress",
                    "Requests that workers are answering now.",
                    {"{{method}}": f"sum by (method) (gunicorn_http_requests_in_progress{{{TARGET}}})"},
                    "short",
                ),
            ],
        ),
        (
            "Endpoints",
            [
                lines(
                    "Busiest endpoints",
                    "The ten with most requests. A click on a line selects the endpoint.",
                    {"{{method}} {{endpoint}}": f"topk(10, {summed(requests, ENDPOINT, 'method, endpoint')})"},
                    "reqps",
                    to_endpoint,
                ),
                lines(
                    "Slowest endpoints, 95 %",
                    "The ten whose slowest requests take longest. A click on a line selects the endpoint.",
                    {"{{method}} {{endpoint}}": f"topk(10, {quantile(0.95, duration, ENDPOINT, 'method, endpoint')})"},
                    "s",
                    to_endpoint,
                ),
                lines(
                    "Failing endpoints",
                    "Requests with status 500 or above. A click on a line selects the endpoint.",
                    {"{{method}} {{endpoint}}": f"topk(10, {summed(requests, failing, 'method, endpoint')})"},
                    "reqps",
                    to_endpoint,
                ),
                lines(
                    "Exceptions",
                    "Also exceptions that the framework answered.",
                    {"{{endpoint}} {{exception}}": f"topk(10, {summed(exceptions, ENDPOINT, 'endpoint, exception')})"},
                    "cps",
                    to_endpoint,
                ),
            ],
        ),
        (
            "Saturation",
            [
                lines(
                    "Connections that wait to be accepted",
                    "At the limit, clients are refused.",
                    {
                        "{{listener}}": f"sum by (listener) (gunicorn_backlog_connections{{{TARGET}}})",
                        "limit of {{listener}}": f"sum by (listener) (gunicorn_backlog_limit{{{TARGET}}})",
                    },
                    "short",
                ),
                lines(
                    "Workers by state",
                    "Workers of all instances.",
                    {"{{state}}": f"sum by (state) (gunicorn_workers{{{TARGET}}})"},
                    "short",
                ),
                lines(
                    "Busy share of a worker",
                    "Share of time; threads and coroutines add up. A click on a line opens the worker.",
                    {"{{worker_id}}": summed("gunicorn_worker_busy_seconds_total", TARGET, "worker_id")},
                    "percentunit",
                    link(WORKERS, "This worker", "worker", "worker_id"),
                ),
            ],
        ),
    ]
    variables = [
        *targets("gunicorn_worker_requests_total"),
        variable("endpoint", "Endpoint", f"{requests}{{{TARGET}}}", ".*"),
    ]
    return board(OVERVIEW, "Gunicorn", "Health, speed, errors and endpoints.", variables, rows)


def workers() -> dict[str, Any]:
    """Figures of each worker, and reasons why workers end."""

    def by_worker(title: str, text: str, expression: str, unit: str) -> dict[str, Any]:
        return lines(
            title, text, {"{{worker_id}}": expression}, unit, link(WORKERS, "This worker alone", "worker", "worker_id")
        )

    def gauge(name: str) -> str:
        return f"max by (worker_id) ({name}{{{WORKER}}})"

    cut_off = summed("gunicorn_http_aborted_total", TARGET, "endpoint, reason", "increase")
    rows = [
        (
            "Work",
            [
                by_worker(
                    "Requests per second",
                    "Finished requests of each worker.",
                    f"sum by (worker_id) (rate(gunicorn_worker_requests_total{{{WORKER}}}{RATE}))",
                    "reqps",
                ),
                by_worker(
                    "Latency, 95 %",
                    "Estimated from the buckets of the histogram.",
                    quantile(0.95, "gunicorn_worker_request_duration_seconds_bucket", WORKER, "worker_id"),
                    "s",
                ),
                lines(
                    "Failed requests",
                    "Requests that raised, by the class of the exception.",
                    {
                        "{{worker_id}} {{error_type}}": summed(
                            "gunicorn_worker_failed_requests_total", WORKER, "worker_id, error_type"
                        )
                    },
                    "cps",
                ),
                lines(
                    "Sizes, 95 %",
                    "Bytes of bodies, estimated from the buckets of the histograms.",
                    {
                        "responses": quantile(0.95, "gunicorn_worker_response_size_bytes_bucket", WORKER),
                        "requests": quantile(0.95, "gunicorn_worker_request_size_bytes_bucket", WORKER),
                    },
                    "bytes",
                ),
            ],
        ),
        (
            "Processes",
            [
                by_worker(
                    "Memory",
                    "Resident memory; pages that workers share count for each.",
                    gauge("gunicorn_worker_memory_bytes"),
                    "bytes",
                ),
                by_worker("CPU", "100 % is one core.", gauge("gunicorn_worker_cpu_percent"), "percent"),
                by_worker("Uptime", "A line that falls is a restart.", gauge("gunicorn_worker_uptime_seconds"), "s"),
            ],
        ),
        (
            "Ends of workers",
            [
                lines(
                    "Ends of workers, by reason",
                    "quit, term, hup and max_requests are orderly; abort is a timeout; kill may be the kernel's.",
                    {"{{reason}}": f"sum by (reason) (increase(gunicorn_worker_restart_total{{{WORKER}}}{RATE}))"},
                    "short",
                ),
                lines(
                    "Signals of the arbiter",
                    "hup reloads, usr2 upgrades, ttin and ttou change the number of workers.",
                    {"{{reason}}": summed("gunicorn_master_worker_restart_total", TARGET, "reason", "increase")},
                    "short",
                ),
                lines(
                    "Requests cut off",
                    "Requests whose worker ended before the answer.",
                    {"{{endpoint}} {{reason}}": f"{cut_off} or vector(0)"},
                    "short",
                ),
            ],
        ),
    ]
    variables = [
        *targets("gunicorn_worker_requests_total"),
        variable("worker", "Worker", f"gunicorn_worker_requests_total{{{TARGET}}}", ".+", "worker_id"),
    ]
    return board(WORKERS, "Gunicorn workers", "Figures of each worker, and reasons why workers end.", variables, rows)


def exporter() -> dict[str, Any]:
    """The exporters themselves, from `/-/metrics`."""

    def highest(name: str) -> str:
        return f"max by (instance) ({name}{{{TARGET}}})"

    rows = [
        (
            "At a glance",
            [
                stat(
                    "Exporters",
                    "Exporters whose /-/metrics is scraped.",
                    f"count(gunicorn_exporter_build_info{{{TARGET}}})",
                    "short",
                ),
                stat(
                    "Push lag",
                    "Age of the oldest change that the shared registry has not acknowledged.",
                    f"max(gunicorn_exporter_push_lag_seconds{{{TARGET}}})",
                    "s",
                ),
                stat(
                    "Errors, last hour",
                    "Failures of the exporters themselves.",
                    f"(sum(increase(gunicorn_exporter_errors_total{{{TARGET}}}[1h])) or vector(0))",
                    "short",
                ),
                stat(
                    "Scrapes, 95 % within",
                    "Time from a request to the end of its page.",
                    quantile(0.95, "gunicorn_exporter_scrape_duration_seconds_bucket", TARGET),
                    "s",
                ),
            ],
        ),
        (
            "Pushes to the shared registry",
            [
                lines(
                    "Push lag",
                    "Above some seconds, Redis is slow or away. Nothing is lost.",
                    {"{{instance}}": highest("gunicorn_exporter_push_lag_seconds")},
                    "s",
                ),
                lines(
                    "Batches",
                    "Batches sent, by the registry's answer.",
                    {"{{status}}": summed("gunicorn_exporter_pushes_total", TARGET, "status")},
                    "short",
                ),
                lines(
                    "Series left out",
                    "Series that the shared registry leaves out at a limit.",
                    {"{{instance}}": highest("gunicorn_exporter_left_out_series")},
                    "short",
                ),
                lines(
                    "Series given up",
                    "Series of ended workers whose last values are lost.",
                    {"{{instance}}": summed("gunicorn_exporter_given_up_series_total", TARGET)},
                    "short",
                ),
            ],
        ),
        (
            "Scrapes",
            [
                lines(
                    "Scrapes",
                    "By path and result.",
                    {"{{path}} {{result}}": summed("gunicorn_exporter_scrapes_total", TARGET, "path, result")},
                    "short",
                ),
                heat(
                    "Time of scrapes",
                    "Number of scrapes by duration: the darker, the more.",
                    f"sum by (le) (increase(gunicorn_exporter_scrape_duration_seconds_bucket{{{TARGET}}}{RATE}))",
                ),
                lines(
                    "Connections",
                    "Open connections of scrapers.",
                    {"{{instance}}": highest("gunicorn_exporter_connections")},
                    "short",
                ),
                lines(
                    "Connections ended early",
                    "To make room for others.",
                    {"{{instance}}": summed("gunicorn_exporter_connections_evicted_total", TARGET)},
                    "short",
                ),
            ],
        ),
        (
            "Errors",
            [
                lines(
                    "Errors",
                    "By where they happened. The exporter's log has a line for each kind.",
                    {"{{where}}": f"{summed('gunicorn_exporter_errors_total', TARGET, 'where')} or vector(0)"},
                    "short",
                ),
                lines(
                    "Versions",
                    "Exporters by version.",
                    {"{{version}}": f"count by (version) (gunicorn_exporter_build_info{{{TARGET}}})"},
                    "short",
                ),
            ],
        ),
    ]
    text = "The exporters themselves, from /-/metrics: push lag, scrapes, errors."
    return board(EXPORTER, "Gunicorn exporters", text, targets("gunicorn_exporter_build_info"), rows)


if __name__ == "__main__":
    main()
