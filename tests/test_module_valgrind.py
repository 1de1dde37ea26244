"""A part of `make test-valgrind`: one server under valgrind, which reports every wrong access to memory."""

import random
import shutil

import pytest
from redis import Redis
from test_module_durability import write_all_kinds
from test_module_hostile import corrupted
from test_module_readme import examples, typed

from harness import RedisServer
from harness.paths import ROOT

BINARY = ROOT / "scripts/redis-under-valgrind"


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_valgrind_reports_no_wrong_access_to_memory() -> None:
    server = RedisServer(binary=BINARY, settings={"enable-debug-command": "local"})
    server.environment["VALGRIND_LOGS"] = str(server.directory)
    with server:
        for command, reply in examples():
            typed(server, command, raw=reply.startswith("#"))
        write_all_kinds(server, writes=200)
        server.execute("DEBUG", "RELOAD")
        server.execute("COPY", "m", "copy")
        server.execute("CONFIG", "SET", "rdbcompression", "no")
        server.execute("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", 1)
        choice = random.Random(1)
        with Redis(unix_socket_path=str(server.socket), socket_timeout=120) as client:
            dump = client.execute_command("DUMP", "m")
            assert isinstance(dump, bytes)
            pipeline = client.pipeline(transaction=False)
            for _ in range(100):
                pipeline.execute_command("RESTORE", "r", 0, corrupted(dump, choice), "REPLACE")
                pipeline.execute_command("METRICS.EXPOSE", "r")
                pipeline.execute_command("METRICS.DEL", "r", "hits")
            pipeline.execute(raise_on_error=False)
        server.execute("FLUSHALL", "ASYNC")
        server.shutdown(keep_data=False)
        reports = [path.read_text() for path in server.directory.glob("[0-9]*.log")]
        assert reports == [""]
