"""Random faults against a real primary and replica: totals stay exact, whatever is cut, late or lost."""

import os
import subprocess
from contextlib import ExitStack

from harness.paths import TARGET, built
from harness.redis import RedisServer

# `make model-check` runs thousands.
SCHEDULES = os.environ.get("FAULT_SCHEDULES", "150")


def test_random_faults_between_writers_and_servers_leave_totals_exact() -> None:
    """Connections cut after any byte, late copies, deaths of exporters, reloads, failovers, losses of all data."""
    program = built(TARGET / "release" / "push_faults")
    with ExitStack() as stack:
        servers = [
            # Totals are compared only when all writers are back, so the registry must not give up a writer before.
            stack.enter_context(
                RedisServer(
                    tcp=True, module_arguments=("healing-time", "86400000"), settings={"enable-debug-command": "yes"}
                )
            )
            for _ in range(2)
        ]
        ports = [str(server.port) for server in servers]
        done = subprocess.run(
            [program, "--servers", *ports, "--schedules", SCHEDULES], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SCHEDULES} schedules" in done.stdout
    assert "totals exact" in done.stdout
