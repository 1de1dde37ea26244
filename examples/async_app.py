"""The same application with a route that waits, for gevent and eventlet: meanwhile other requests are answered."""

import time

from flask_app.shop import app

__all__ = ["app"]


@app.get("/slow/<float:seconds>")
def slow(seconds: float) -> dict[str, object]:
    """Waits, at most ten seconds. The worker has replaced `time.sleep` by one that lets other requests run."""
    time.sleep(min(seconds, 10))
    return {"waited": seconds}
