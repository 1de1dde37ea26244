"""PUSH and LEAVE count exactly once after any fault. A second implementation of BATCH.md makes the batches."""

from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from redis import ResponseError

from harness import RedisServer, eventually
from harness.batch import Batch, Buckets, Timed, counter, gauge, histogram, summary
from harness.redis import since_7
from harness.scrape import Scrape

HITS, WAIT = counter("hits", help="Hits"), histogram("wait")


@dataclass
class Writer:
    """One life of one process: an id, the epoch from the last reply, and its seq."""

    redis: RedisServer
    key: str = "m"
    id: bytes = field(default_factory=lambda: uuid4().bytes)
    epoch: str = ""
    seq: int = 0

    def begin(self) -> "Writer":
        """Sends the first PUSH of a writer, which is empty and names no epoch; the reply contains it."""
        status, epoch, *_ = self.send(1, Batch(), epoch="")
        assert status == "RESYNC"
        self.epoch = str(epoch)
        return self

    def push(self, batch: Batch, *, lease_ms: int = 60_000) -> list[object]:
        """Sends the next batch."""
        self.seq += 1
        return self.send(self.seq, batch, lease_ms=lease_ms)

    def send(self, seq: int, batch: Batch, *, epoch: str | None = None, lease_ms: int = 60_000) -> list[object]:
        """Sends any batch; returns status, epoch, last seq, entries left out."""
        named = self.epoch if epoch is None else epoch
        options = ["EPOCH", named] if named else []
        reply = self.redis.execute("METRICS.PUSH", self.key, self.id, seq, batch.encode(), *options, "LEASE", lease_ms)
        assert isinstance(reply, list)
        return reply

    def leave(self) -> list[object]:
        """Leaves for good."""
        reply = self.redis.execute("METRICS.LEAVE", self.key, self.id, self.seq, "EPOCH", self.epoch)
        assert isinstance(reply, list)
        return reply


def hits(value: float, *, base: float | None = None) -> Batch:
    """Returns a full state of one counter."""
    return Batch.full().define(HITS, {}, value, base=base)


def page(redis: RedisServer, key: str = "m") -> Scrape:
    """Returns the whole page."""
    return Scrape(str(redis.execute("METRICS.EXPOSE", key)), "text/plain")


def test_a_push_makes_a_missing_key_and_the_reply_has_its_epoch(redis: RedisServer) -> None:
    writer = Writer(redis)
    status, epoch, last, left_out = writer.send(1, hits(5), epoch="")
    assert (status, last, left_out) == ("RESYNC", 0, 0)
    assert isinstance(epoch, str)
    assert len(epoch) == 16
    assert redis.execute("METRICS.EXPOSE", "m") == ""
    assert redis.execute("TYPE", "m") == "metricset"


def test_every_type_of_series_arrives(redis: RedisServer) -> None:
    state = Batch.full()
    state.define(HITS, {"code": "200"}, 3)
    state.define(gauge("depth"), {}, 2.5)
    state.define(gauge("seen", "mostrecent"), {}, Timed(7, 1000))
    state.define(gauge("memory", "all"), {}, 64, pid="host:8000:1")
    state.define(WAIT, {}, Buckets(1.5, [1, 0, 2], ["0.1", "1"]))
    state.define(summary("size"), {}, Buckets(10, [4]))
    writer = Writer(redis).begin()
    assert writer.push(state) == ["OK", writer.epoch, 1, 0]
    changes = Batch().value(0, 4).timed(2, 8, 1001).buckets(4, 2.5, {1: 5}).buckets(5, 11, {0: 5})
    assert writer.push(changes) == ["OK", writer.epoch, 2, 0]
    found = page(redis)
    assert found.value("hits_total", code="200") == 4
    assert found.families["hits"].documentation == "Hits"
    assert found.value("depth") == 2.5
    assert found.value("seen") == 8
    assert found.value("memory", pid="host:8000:1") == 64
    assert [found.value("wait_bucket", le=le) for le in ("0.1", "1", "+Inf")] == [1, 6, 8]
    assert (found.value("wait_sum"), found.value("size_sum"), found.value("size_count")) == (2.5, 11, 5)


def test_a_batch_counts_once_however_often_it_comes(redis: RedisServer) -> None:
    writer = Writer(redis).begin()
    assert writer.push(hits(5))[0] == "OK"
    assert writer.push(Batch().value(0, 8))[0] == "OK"
    assert writer.send(2, Batch().value(0, 8)) == ["DUP", writer.epoch, 2, 0]
    assert writer.send(1, hits(5)) == ["DUP", writer.epoch, 2, 0]
    assert redis.execute("METRICS.GET", "m", "hits") == "8"


def test_a_gap_is_answered_with_resync_and_healed_by_a_full_state(redis: RedisServer) -> None:
    writer = Writer(redis).begin()
    writer.push(hits(5))
    assert writer.send(3, Batch().value(0, 9)) == ["RESYNC", writer.epoch, 1, 0]
    assert redis.execute("METRICS.GET", "m", "hits") == "5"
    assert writer.send(4, hits(9)) == ["OK", writer.epoch, 4, 0]
    assert redis.execute("METRICS.GET", "m", "hits") == "9"


def test_a_batch_for_another_epoch_is_never_applied(redis: RedisServer) -> None:
    writer = Writer(redis).begin()
    writer.push(hits(5))
    redis.execute("FLUSHALL")
    status, epoch, last, _ = writer.send(2, Batch().value(0, 9))
    assert (status, last) == ("RESYNC", 0)
    assert epoch != writer.epoch
    assert writer.send(2, hits(9))[0] == "RESYNC"
    assert redis.execute("METRICS.GET", "m", "hits") is None
    writer.epoch = str(epoch)
    assert writer.send(3, hits(9, base=5))[0] == "OK"
    assert redis.execute("METRICS.GET", "m", "hits") == "4"


def test_several_writers_share_totals_and_live_gauges_show_only_live_writers(redis: RedisServer) -> None:
    one, two = Writer(redis).begin(), Writer(redis).begin()
    for writer, value in ((one, 3), (two, 4)):
        writer.push(hits(value).define(gauge("depth", "livesum"), {}, value))
    assert (page(redis).value("hits_total"), page(redis).value("depth")) == (7, 7)
    assert one.leave()[0] == "OK"
    assert (page(redis).value("hits_total"), page(redis).value("depth")) == (7, 4)
    assert one.leave()[0] == "GONE"
    assert one.push(Batch())[0] == "GONE"


def test_live_values_are_hidden_from_the_end_of_the_lease_until_the_next_push(redis: RedisServer) -> None:
    writer = Writer(redis).begin()
    writer.push(hits(3).define(gauge("depth", "livesum"), {}, 5), lease_ms=50)
    eventually(lambda: page(redis).samples("depth"), equals=[])
    assert page(redis).value("hits_total") == 3
    writer.push(Batch())
    assert page(redis).value("depth") == 5


def test_a_full_state_ends_the_series_that_it_does_not_name(redis: RedisServer) -> None:
    writer = Writer(redis).begin()
    writer.push(Batch.full().define(gauge("old"), {}, 1).define(gauge("kept"), {}, 2))
    assert writer.push(Batch.full(last=False).define(gauge("kept"), {}, 3))[0] == "OK"
    assert page(redis).value("old") == 1
    assert writer.push(Batch.more(last=True).define(gauge("new"), {}, 4))[0] == "OK"
    found = page(redis)
    assert found.samples("old") == []
    assert (found.value("kept"), found.value("new")) == (3, 4)


def test_a_retired_gauge_is_gone_and_a_retired_counter_stays(redis: RedisServer) -> None:
    writer = Writer(redis).begin()
    writer.push(hits(5).define(gauge("depth"), {}, 2))
    assert writer.push(Batch().retire(0).retire(1))[3] == 0
    assert page(redis).samples("depth") == []
    assert page(redis).value("hits_total") == 5
    assert writer.push(Batch().value(1, 9))[3] == 1


def test_entries_that_do_not_fit_are_left_out_and_counted(redis: RedisServer) -> None:
    redis.execute("METRICS.SET", "m", "hits", 1)
    writer = Writer(redis).begin()
    status, _, _, left_out = writer.push(hits(5).define(counter("misses"), {}, 2))
    assert (status, left_out) == ("OK", 1)
    assert writer.push(Batch().value(1, 1).value(7, 1))[3] == 2
    found = page(redis)
    assert (found.value("hits"), found.value("misses_total")) == (1, 2)
    reasons = {sample.labels["reason"]: sample.value for sample in found.samples("metrics_rejected_samples_total")}
    assert reasons == {"conflict": 1, "decrease": 1, "index": 1}
    assert redis.client.info("metrics")["metrics_rejected_samples"] == 3


@since_7
def test_at_the_series_limit_new_series_are_left_out(redis: RedisServer) -> None:
    redis.execute("CONFIG", "SET", "metrics.max-series", 2)
    writer = Writer(redis).begin()
    state = Batch.full()
    for number in range(5):
        state.define(HITS, {"n": str(number)}, 1)
    assert writer.push(state)[3] == 3
    with pytest.raises(ResponseError, match="the registry has 2 series"):
        redis.execute("METRICS.INC", "m", "misses")


def test_when_memory_is_full_known_series_are_updated(redis: RedisServer) -> None:
    writer = Writer(redis).begin()
    writer.push(hits(5))
    redis.execute("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(ResponseError, match="used memory > 'maxmemory'"):
        redis.execute("METRICS.INC", "m", "misses")
    assert writer.push(Batch().value(0, 6).define(gauge("depth"), {}, 1)) == ["OK", writer.epoch, 2, 1]
    assert page(redis).value("hits_total") == 6
    redis.execute("CONFIG", "SET", "maxmemory", 0)
    assert writer.push(Batch().define(gauge("depth"), {}, 1))[3] == 0


def test_when_memory_is_full_no_writer_and_no_key_is_made(redis: RedisServer) -> None:
    known = Writer(redis).begin()
    known.push(hits(5))
    redis.execute("CONFIG", "SET", "maxmemory", 1)
    before, offset = redis.registry("m"), redis.client.info("replication")["master_repl_offset"]
    for key in ("m", "other"):
        unknown = Writer(redis, id=b"x" * 200, key=key, epoch=known.epoch)
        for state in (Batch(), hits(3)):
            with pytest.raises(
                ResponseError, match=r"^used memory > 'maxmemory', and the writer or its key is new: it has to wait$"
            ) as refused:
                unknown.push(state)
            assert "\n" not in str(refused.value)
    assert redis.execute("EXISTS", "other") == 0
    assert redis.registry("m") == before
    assert redis.client.info("replication")["master_repl_offset"] == offset
    # A known writer renews, updates and leaves.
    assert known.push(Batch())[0] == "OK"
    assert known.push(Batch().value(0, 6))[0] == "OK"
    assert known.leave()[0] == "OK"
    redis.execute("CONFIG", "SET", "maxmemory", 0)
    assert Writer(redis, id=b"later").begin().push(hits(3))[0] == "OK"
    assert page(redis).value("hits_total") == 9


def test_the_key_expires_after_its_writers_have_ended(redis: RedisServer) -> None:
    writer = Writer(redis).begin()
    assert redis.execute("PTTL", "m") == -1
    state = Batch.full(registry_ttl_ms=30_000).define(HITS, {}, 1)
    writer.push(state, lease_ms=60_000)
    assert 85_000 < int(str(redis.execute("PTTL", "m"))) <= 90_000
    Writer(redis, epoch=writer.epoch).push(Batch.full(registry_ttl_ms=1), lease_ms=1)
    assert 55_000 < int(str(redis.execute("PTTL", "m"))) <= 60_001


@pytest.mark.parametrize(
    "batch",
    [
        b"",
        b"\x02\x00\x00\x00\x00",
        b"\x01\x05\x00\x00\x00",
        b"\x01\x00\x00\x00\x01",
        b"\x01\x00\x00\x00\x00\x00",
        b"\x01\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x01\x00\x00\x80\x00\x00",
        hits(5).encode()[:-1],
    ],
)
def test_a_malformed_batch_changes_nothing(redis: RedisServer, batch: bytes) -> None:
    writer = Writer(redis).begin()
    with pytest.raises(ResponseError, match="wrong batch: "):
        redis.execute("METRICS.PUSH", "m", writer.id, 1, batch, "EPOCH", writer.epoch)
    assert writer.push(hits(1)) == ["OK", writer.epoch, 1, 0]


def test_four_thousand_entries_fit_into_a_batch(redis: RedisServer) -> None:
    writer = Writer(redis).begin()
    state = Batch.full()
    for number in range(4095):
        state.define(HITS, {"n": str(number)}, number)
    assert writer.push(state)[3] == 0
    update = Batch()
    for number in range(4095):
        update.value(number, number + 1)
    assert writer.push(update)[3] == 0
    assert page(redis).sum("hits_total") == sum(range(4096))
