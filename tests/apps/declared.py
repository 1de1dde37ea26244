"""An application whose metric is declared as a file says, so that a restart can change the declaration."""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from prometheus_client import Counter, Gauge, Histogram

from apps.plain import StartResponse

_FOLDER = Path(os.environ["DECLARED_FOLDER"])
_DECLARATION = json.loads((_FOLDER / "declaration.json").read_text())
_TYPES = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
_METRIC = _TYPES[_DECLARATION.pop("type")]("jobs", _DECLARATION.pop("help"), **_DECLARATION)


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """/?value= writes the metric; /hold keeps the worker until the file `release` is there; each answers the pid."""
    body = str(os.getpid()).encode()
    if environ["PATH_INFO"] == "/hold":
        (_FOLDER / "held").touch()
        while not (_FOLDER / "release").exists():
            time.sleep(0.01)
    elif environ["PATH_INFO"] != "/pid":
        value = float(parse_qs(environ["QUERY_STRING"])["value"][0])
        write = getattr(_METRIC, {"counter": "inc", "gauge": "set", "histogram": "observe"}[_METRIC._type])
        write(value)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
