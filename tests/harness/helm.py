"""Helm, which installs into an API server that accepts every object and runs nothing.

Helm is a shared library here. It runs in a separate process, for which this file is also the program: a Go runtime
cannot be unloaded.
"""

import base64
import contextlib
import ctypes
import gzip
import http.server
import json
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / ".tools" / "helm" / "libhelm_sdkpy.so"

# The kinds that this API server knows: group and version, plural, kind.
_RESOURCES = (
    ("v1", "configmaps", "ConfigMap"),
    ("v1", "secrets", "Secret"),
    ("v1", "serviceaccounts", "ServiceAccount"),
    ("v1", "services", "Service"),
    ("apps/v1", "deployments", "Deployment"),
    ("apps/v1", "statefulsets", "StatefulSet"),
    ("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    ("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy"),
    ("monitoring.coreos.com/v1", "servicemonitors", "ServiceMonitor"),
    ("monitoring.coreos.com/v1", "podmonitors", "PodMonitor"),
    ("monitoring.coreos.com/v1", "prometheusrules", "PrometheusRule"),
)


class Release(NamedTuple):
    """The objects that the cluster received, in their order, and the notes that Helm prints."""

    objects: list[dict[str, Any]]
    notes: str


class HelmError(Exception):
    """The message with which Helm refuses."""


def install(chart: Path, values: Mapping[str, Any], release: str = "metrics") -> Release:
    """Runs `helm install` of a chart with those values."""
    with _cluster() as (port, taken, releases):
        _helm("install", str(port), release, str(chart), json.dumps(values))
        (stored,) = releases
        return Release(taken, str(stored["info"].get("notes", "")))


def lint(chart: Path) -> list[str]:
    """Runs `helm lint`; returns its warnings and errors."""
    findings: list[dict[str, Any]] = json.loads(_helm("lint", "0", "", str(chart), "{}"))["Messages"] or []
    # Severity 1 is advice: the chart has no icon.
    return [str(finding) for finding in findings if finding["Severity"] > 1]


def _helm(*words: str) -> str:
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise HelmError(done.stderr)
    return done.stdout


@contextlib.contextmanager
def _cluster() -> Iterator[tuple[int, list[dict[str, Any]], list[dict[str, Any]]]]:
    """Runs an API server that knows some kinds; yields its port, the objects that it gets, and Helm's own records."""
    taken: list[dict[str, Any]] = []
    releases: list[dict[str, Any]] = []

    class Api(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answers discovery; for any other path there is no object."""
            path = self.path.split("?")[0]
            found = _discovery(path)
            self._answer(404 if found is None else 200, found or _STATUS_NOT_FOUND)

        def do_PATCH(self) -> None:
            """Receives an object, by server-side apply."""
            taken.append(yaml.safe_load(self._body()))
            self._answer(201, taken[-1])

        def do_POST(self) -> None:
            """Receives an object, or Helm's record of the release: packed, in a secret in protobuf."""
            body = self._body()
            packed = re.search(rb"H4sI[A-Za-z0-9+/=]+", body)
            if packed:
                releases[:] = [json.loads(gzip.decompress(base64.b64decode(packed[0])))]
                self._answer(201, body)
                return
            taken.append(json.loads(body))
            self._answer(201, taken[-1])

        def do_PUT(self) -> None:
            """Receives the record again, when everything is installed."""
            self.do_POST()

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _answer(self, status: int, body: Any) -> None:
            is_bytes = isinstance(body, bytes)
            payload = body if is_bytes else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.kubernetes.protobuf" if is_bytes else "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:
            """Writes no log."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, taken, releases
    finally:
        server.shutdown()
        server.server_close()


_STATUS_NOT_FOUND = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


def _discovery(path: str) -> dict[str, Any] | None:
    if path == "/version":
        return {"major": "1", "minor": "31", "gitVersion": "v1.31.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        versions = sorted({version for version, *_ in _RESOURCES if "/" in version})
        named = [(one.split("/")[0], {"groupVersion": one, "version": one.split("/")[1]}) for one in versions]
        groups = [{"name": name, "versions": [one], "preferredVersion": one} for name, one in named]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    if path.endswith("/secrets"):
        return {"kind": "SecretList", "apiVersion": "v1", "items": []}
    version = path.removeprefix("/apis/").removeprefix("/api/")
    resources = [
        {
            "name": plural,
            "singularName": kind.lower(),
            "namespaced": True,
            "kind": kind,
            "verbs": ["get", "create", "patch"],
        }
        for of, plural, kind in _RESOURCES
        if of == version
    ]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": resources} if resources else None


def _main(action: str, port: str, release: str, chart: str, values: str) -> None:
    """The program: calls the library once."""
    library = ctypes.CDLL(str(LIBRARY))
    library.helm_sdkpy_last_error.restype = ctypes.c_char_p
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "c"}}
    users = [{"name": "c", "user": {}}]
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context], "users": users}
    handle, result = ctypes.c_ulonglong(), ctypes.c_char_p()
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as kubeconfig:
        json.dump({**config, "current-context": "c"}, kubeconfig)
        kubeconfig.flush()
        failed = library.helm_sdkpy_config_create(b"shop", kubeconfig.name.encode(), b"", b"{}", ctypes.byref(handle))
        if not failed and action == "lint":
            failed = library.helm_sdkpy_lint(handle, chart.encode(), ctypes.byref(result))
        elif not failed:
            failed = library.helm_sdkpy_install(
                handle, release.encode(), chart.encode(), values.encode(), b"", b'{"wait": false}', ctypes.byref(result)
            )
    if failed:
        sys.exit((library.helm_sdkpy_last_error() or b"helm gives no reason").decode())
    sys.stdout.write((result.value or b"").decode())


if __name__ == "__main__":
    _main(*sys.argv[1:])
