"""Each METRICS.* command as its user types it: its reply, its errors, and their words."""

import itertools
from collections.abc import Iterator

import pytest
from redis import Redis, ResponseError

from harness import RedisServer
from harness.redis import since_7
from harness.scrape import Scrape


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server that allows DEBUG."""
    with RedisServer(settings={"enable-debug-command": "local"}) as server:
        yield server


def page(redis: RedisServer, key: str = "m") -> Scrape:
    """Returns the whole page, read by prometheus_client's parser for text 0.0.4."""
    return Scrape(str(redis.execute("METRICS.EXPOSE", key)), "text/plain")


def refused(redis: RedisServer, *words: object) -> str:
    """Returns the error of a command: one line, after which nothing has changed."""
    before = redis.execute("DEBUG", "DIGEST")
    with Redis(unix_socket_path=str(redis.socket)) as client, pytest.raises(ResponseError) as error:
        client.execute_command(*words)
    assert redis.execute("DEBUG", "DIGEST") == before
    assert "\n" not in str(error.value)
    return str(error.value)


# --- counters ---------------------------------------------------------------------------------------------------------


def test_inc_creates_the_family_and_answers_the_new_total(redis: RedisServer) -> None:
    assert redis.execute("METRICS.INC", "m", "hits") == "1"
    assert redis.execute("METRICS.INC", "m", "hits_total", "BY", "2.5") == "3.5"
    assert redis.execute("METRICS.INC", "m", "hits", "BY", "1e6") == "1.0000035e+06"
    assert redis.execute("METRICS.EXPOSE", "m") == "# TYPE hits_total counter\nhits_total 1.0000035e+06\n"
    assert redis.execute("TYPE", "m") == "metricset"


def test_options_come_in_any_order_and_any_case(redis: RedisServer) -> None:
    options = [["by", "2"], ["Labels", "2", "b", "2", "a", "1"], ["TTL", "60000"]]
    orders = list(itertools.permutations(options))
    for order in orders:
        redis.execute("metrics.inc", "m", "hits", *itertools.chain(*order))
    assert page(redis).value("hits_total", a="1", b="2") == 2 * len(orders)


def test_an_empty_label_value_equals_an_absent_label(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", "m", "hits", "LABELS", "2", "a", "1", "b", "")
    redis.execute("METRICS.INC", "m", "hits", "LABELS", "1", "a", "1")
    assert page(redis).value("hits_total", a="1", b=None) == 2


def test_label_values_come_back_as_they_were_given(redis: RedisServer) -> None:
    value = 'quote " backslash \\ line\nfeed é 漢 \0 end'
    redis.execute("METRICS.INC", "m", "hits", "LABELS", "1", "a", value)
    assert page(redis).samples("hits_total")[0].labels == {"a": value}


@pytest.mark.parametrize("by", ["-1", "NaN", "+Inf", "-Inf"])
def test_a_counter_only_grows_by_finite_numbers(redis: RedisServer, by: str) -> None:
    redis.execute("METRICS.INC", "m", "hits")
    assert "a counter grows by a finite number" in refused(redis, "METRICS.INC", "m", "hits", "BY", by)


# --- gauges -----------------------------------------------------------------------------------------------------------


def test_set_and_add_a_gauge(redis: RedisServer) -> None:
    assert redis.execute("METRICS.SET", "m", "depth", "4") == "OK"
    assert redis.execute("METRICS.ADD", "m", "depth", "-1.5") == "2.5"
    assert redis.execute("METRICS.GET", "m", "depth") == "2.5"
    assert page(redis).families["depth"].type == "gauge"


@pytest.mark.parametrize("number", ["+Inf", "-inf", "nan", "1e400"])
def test_gauges_accept_every_float(redis: RedisServer, number: str) -> None:
    spelled = {"+Inf": "+Inf", "-inf": "-Inf", "nan": "NaN", "1e400": "+Inf"}[number]
    redis.execute("METRICS.SET", "m", "depth", number)
    assert redis.execute("METRICS.GET", "m", "depth") == spelled


@pytest.mark.parametrize(
    ("number", "expected"),
    [("0x1p3", "8"), ("-0X.8", "-0.5"), ("+1.5e1", "15"), (".5", "0.5"), ("2.", "2"), ("-INFINITY", "-Inf")],
)
def test_a_number_is_read_in_every_spelling_of_redis(redis: RedisServer, number: str, expected: str) -> None:
    redis.execute("METRICS.SET", "m", "depth", number)
    assert redis.execute("METRICS.GET", "m", "depth") == expected


@pytest.mark.parametrize("number", ["", " 1", "1 ", "1_0", "0x", "0xp1", "1e", "--1", "nan(1)", "1,5"])
def test_text_that_is_no_number_is_refused(redis: RedisServer, number: str) -> None:
    with pytest.raises(ResponseError, match=r"is no number$"):
        redis.execute("METRICS.SET", "m", "depth", number)
    assert redis.execute("EXISTS", "m") == 0


def test_a_counter_refuses_a_value_that_would_overflow(redis: RedisServer) -> None:
    assert redis.execute("METRICS.INC", "m", "hits", "BY", "1.7e308") == "1.7e+308"
    with pytest.raises(ResponseError, match="would make the total too large"):
        redis.execute("METRICS.INC", "m", "hits", "BY", "1.7e308")
    assert redis.execute("METRICS.INC", "m", "hits", "BY", "1") == "1.7e+308"


def test_large_values_of_a_gauge_leave_no_rounding_error(redis: RedisServer) -> None:
    for value in ("1.7e308", "1e300", "1"):
        for writer in ("one", "two"):
            redis.execute("METRICS.SET", "m", "depth", value, "WRITER", writer)
    assert redis.execute("METRICS.GET", "m", "depth") == "2"


@pytest.mark.parametrize(("mode", "expected"), [("sum", "7"), ("livesum", "7"), ("max", "5"), ("min", "2")])
def test_the_mode_of_a_gauge_folds_the_values_of_its_writers(redis: RedisServer, mode: str, expected: str) -> None:
    for writer, value in (("one", 2), ("two", 5)):
        redis.execute("METRICS.SET", "m", "depth", value, "MODE", mode, "WRITER", writer, "LEASE", 60_000)
    assert redis.execute("METRICS.GET", "m", "depth") == expected


def test_live_values_end_when_their_writer_leaves(redis: RedisServer) -> None:
    for writer, value in (("one", 2), ("two", 5)):
        redis.execute("METRICS.SET", "m", "depth", value, "MODE", "livesum", "WRITER", writer)
    reply = redis.execute("METRICS.LEAVE", "m", "one", 0)
    assert isinstance(reply, list)
    assert reply[0] == "OK"
    assert redis.execute("METRICS.GET", "m", "depth") == "5"


def test_a_mostrecent_gauge_cannot_be_added_to(redis: RedisServer) -> None:
    redis.execute("METRICS.SET", "m", "depth", 1, "MODE", "mostrecent")
    assert "can be set, but not added to" in refused(redis, "METRICS.ADD", "m", "depth", 1)


# --- histograms and summaries -----------------------------------------------------------------------------------------


def test_observe_counts_into_buckets(redis: RedisServer) -> None:
    for value in ("0.1", "0.3", "7", "+Inf"):
        assert redis.execute("METRICS.OBSERVE", "m", "wait", value, "BUCKETS", "2", "0.1", "1.0") == "OK"
    assert redis.execute("METRICS.GET", "m", "wait") == ["4", "+Inf", ["0.1", "1"], ["1.0", "2"], ["+Inf", "4"]]


def test_a_new_histogram_has_the_default_buckets(redis: RedisServer) -> None:
    redis.execute("METRICS.OBSERVE", "m", "wait", "0.3")
    bounds = page(redis).values_of("le", "wait_bucket")
    assert bounds == {"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"}


def test_observe_into_a_declared_summary(redis: RedisServer) -> None:
    redis.execute("METRICS.DECLARE", "m", "wait", "SUMMARY", "HELP", "Waiting time")
    redis.execute("METRICS.OBSERVE", "m", "wait", "2.5")
    redis.execute("METRICS.OBSERVE", "m", "wait", "1")
    assert redis.execute("METRICS.GET", "m", "wait") == ["2", "3.5"]
    assert page(redis).families["wait"].type == "summary"


def test_nan_cannot_be_observed(redis: RedisServer) -> None:
    assert refused(redis, "METRICS.OBSERVE", "m", "wait", "nan") == "an observation must be a number, not NaN"


# --- families ---------------------------------------------------------------------------------------------------------


def test_declare_gives_help_and_unit(redis: RedisServer) -> None:
    words = ("HELP", "How long", "UNIT", "seconds", "BUCKETS", "1", "5", "TTL", "60000")
    assert redis.execute("METRICS.DECLARE", "m", "wait_seconds", "histogram", *words) == "OK"
    redis.execute("METRICS.OBSERVE", "m", "wait_seconds", 1)
    openmetrics = str(redis.execute("METRICS.EXPOSE", "m", "FORMAT", "OPENMETRICS"))
    family = Scrape(openmetrics, "application/openmetrics-text").families["wait_seconds"]
    assert (family.documentation, family.unit, len(family.samples)) == ("How long", "seconds", 4)


def test_declare_accepts_an_equal_family_and_refuses_a_different_one(redis: RedisServer) -> None:
    redis.execute("METRICS.DECLARE", "m", "depth", "GAUGE", "MODE", "max", "HELP", "first")
    assert redis.execute("METRICS.DECLARE", "m", "depth", "GAUGE", "MODE", "MAX", "HELP", "second") == "OK"
    redis.execute("METRICS.SET", "m", "depth", 1)
    assert page(redis).families["depth"].documentation == "first"
    assert refused(redis, "METRICS.DECLARE", "m", "depth", "COUNTER") == (
        "family 'depth' is a gauge in mode max, not a counter"
    )
    assert "gauge in mode max, not a gauge in mode sum" in refused(redis, "METRICS.DECLARE", "m", "depth", "GAUGE")


def test_families_that_would_share_a_sample_name_are_refused(redis: RedisServer) -> None:
    redis.execute("METRICS.OBSERVE", "m", "wait", 1)
    assert refused(redis, "METRICS.SET", "m", "wait_count", 1) == (
        "family 'wait_count' would share the sample name 'wait_count' with family 'wait'"
    )


def test_del_removes_a_series_or_a_family(redis: RedisServer) -> None:
    for code in ("200", "404", "500"):
        redis.execute("METRICS.INC", "m", "hits", "LABELS", "1", "code", code)
    assert redis.execute("METRICS.DEL", "m", "hits", "LABELS", "1", "code", "404") == 1
    assert page(redis).values_of("code", "hits_total") == {"200", "500"}
    assert redis.execute("METRICS.DEL", "m", "hits") == 2
    assert redis.execute("METRICS.DEL", "m", "hits") == 0
    assert redis.execute("METRICS.EXPOSE", "m") == ""
    redis.execute("METRICS.SET", "m", "hits", 3)
    assert page(redis).value("hits") == 3


def test_ttl_is_the_idle_time_after_which_series_expire(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", "m", "hits", "LABELS", "1", "code", "200")
    redis.execute("METRICS.INC", "m", "hits", "LABELS", "1", "code", "500")
    assert redis.execute("METRICS.TTL", "m", "hits", 60_000) == 2
    assert redis.execute("METRICS.TTL", "m", "hits", 1, "LABELS", "1", "code", "500") == 1
    assert redis.execute("METRICS.TTL", "m", "misses", 1) == 0
    redis.execute("DEBUG", "SLEEP", "0.01")
    assert page(redis).values_of("code", "hits_total") == {"200"}
    assert redis.execute("METRICS.INC", "m", "hits", "LABELS", "1", "code", "500") == "1"


def test_get_answers_nil_for_a_missing_key_family_or_series(redis: RedisServer) -> None:
    assert redis.execute("METRICS.GET", "m", "hits") is None
    redis.execute("METRICS.INC", "m", "hits", "LABELS", "1", "code", "200")
    assert redis.execute("METRICS.GET", "m", "hits") is None
    assert redis.execute("METRICS.GET", "m", "hits", "LABELS", "1", "code", "200") == "1"


@since_7
def test_info_lists_the_properties_of_a_registry(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", "m", "hits")
    with Redis(unix_socket_path=str(redis.socket), protocol=3, decode_responses=True) as client:
        info = client.execute_command("METRICS.INFO", "m")
    assert (info["families"], info["series"], len(info["epoch"]), info["max_series"]) == ("1", "1", 16, "1000000")
    assert refused(redis, "METRICS.INFO", "nothing") == "no such key"


def test_info_of_the_server_counts_keys_and_series(redis: RedisServer) -> None:
    for key in ("one", "two"):
        for family in ("hits", "misses"):
            redis.execute("METRICS.INC", key, family)
    redis.execute("UNLINK", "two")
    assert redis.client.info("metrics") == {"metrics_keys": 1, "metrics_series": 2, "metrics_rejected_samples": 0}


def test_commands_that_need_no_key_make_none(redis: RedisServer) -> None:
    assert redis.execute("METRICS.DEL", "m", "hits") == 0
    assert redis.execute("METRICS.TTL", "m", "hits", 1) == 0
    assert redis.execute("METRICS.EXPOSE", "m") == ""
    assert redis.execute("METRICS.EXPOSE", "m", "FORMAT", "openmetrics") == "# EOF\n"
    assert redis.execute("METRICS.EXPOSE", "m", "CURSOR", "0") == ["0", ""]
    reply = redis.execute("METRICS.LEAVE", "m", "writer", 7, "EPOCH", "00000000000000ff")
    assert reply == ["OK", "00000000000000ff", 7, 0]
    assert redis.execute("EXISTS", "m") == 0


# --- errors -----------------------------------------------------------------------------------------------------------

WRONG = [
    (("METRICS.INC", "m"), "wrong number of arguments for 'METRICS.INC' command"),
    (("METRICS.INC", "m", "hits", "BY", "one"), "'one' is no number"),
    (("METRICS.INC", "m", "hits", "BY"), "option BY lacks its value"),
    (("METRICS.INC", "m", "hits", "BY", "1", "by", "1"), "option BY is given twice"),
    (("METRICS.INC", "m", "hits", "WITH", "1"), "unknown option 'WITH', expected BY, LABELS, EXEMPLAR or TTL"),
    (
        ("METRICS.INC", "m", "hits", "STAMP", "1", "00000000000000ff", "0"),
        "unknown option 'STAMP', expected BY, LABELS, EXEMPLAR or TTL",
    ),
    (("METRICS.INC", "m", "hits", "TTL", "-1"), "'-1' is no number of milliseconds"),
    (("METRICS.INC", "m", "hits", "LABELS", "2", "a", "1"), "option LABELS lacks its value"),
    (
        ("METRICS.INC", "m", "hits", "LABELS", "65", *["a"] * 130),
        "number of labels 65 is out of range, at most 64 are allowed",
    ),
    (("METRICS.INC", "m", "hits", "LABELS", "1", "le", "1"), "label name 'le' is reserved"),
    (("METRICS.INC", "m", "hits", "LABELS", "2", "a", "1", "a", "2"), "label name 'a' is given twice"),
    (("METRICS.INC", "m", ""), "a family name must not be empty"),
    (("METRICS.INC", "m", b"\xff\xfe"), "family name '��' is not UTF-8"),
    (("METRICS.DECLARE", "m", "x", "GAUGE", "MODE", "mean"), "unknown gauge mode 'mean', expected one of all, "),
    (("METRICS.DECLARE", "m", "x", "COUNTER", "MODE", "sum"), "MODE only goes with GAUGE"),
    (("METRICS.DECLARE", "m", "x", "COUNTER", "BUCKETS", "1", "1"), "BUCKETS only goes with HISTOGRAM"),
    (("METRICS.DECLARE", "m", "x", "METER"), "unknown type 'METER', expected COUNTER, GAUGE, "),
    (
        ("METRICS.DECLARE", "m", "x", "NATIVEHISTOGRAM", "SCHEMA", "9"),
        "schema '9' is out of range, expected a whole number from -4 to 8",
    ),
    (("METRICS.DECLARE", "m", "x", "COUNTER", "SCHEMA", "3"), "SCHEMA only goes with NATIVEHISTOGRAM"),
    (("METRICS.FAMILIES", "m", "CURSOR", "x"), "'x' is no cursor: begin with 0"),
    (("METRICS.WRITERS", "m", "CURSOR", "-1"), "'-1' is no cursor: begin with 0"),
    (("METRICS.WRITERS", "m", "COUNT", "1"), "unknown option 'COUNT', expected CURSOR"),
    (
        ("METRICS.DECLARE", "m", "x", "HISTOGRAM", "BUCKETS", "2", "1", "0.5"),
        "bucket bounds must be finite numbers in ascending order, found '0.5'",
    ),
    (("METRICS.EXPOSE", "m", "FORMAT", "XML"), "unknown format 'XML', expected TEXT, TEXT1, OPENMETRICS, "),
    (("METRICS.EXPOSE", "m", "COUNT", "1"), "COUNT only goes with CURSOR"),
    (("METRICS.EXPOSE", "m", "BYTES", "65536"), "BYTES only goes with CURSOR"),
    (("METRICS.EXPOSE", "m", "CURSOR", "0", "BYTES"), "option BYTES lacks its value"),
    *(
        (
            ("METRICS.EXPOSE", "m", "CURSOR", "0", "BYTES", wrong),
            f"BYTES '{wrong}' is out of range, expected a whole number from 16384 to 1048576",
        )
        for wrong in ("0", "16383", "1048577", "-1", "1e5", "+20000", "9" * 30, "many")
    ),
    (("METRICS.PUSH", "m", "", "1", "x"), "a writer id must not be empty"),
    (("METRICS.PUSH", "m", "w", "first", "x"), "'first' is no seq"),
    (("METRICS.PUSH", "m", "w", "1", b"\x01\x00\x00\x00\x00", "EPOCH", "12"), "'12' is no epoch, expected 16 hex"),
    (("METRICS.PUSH", "m", "w" * 257, "1", "x"), "writer id of 257 bytes, at most 256 are allowed"),
    (("METRICS.LEAVE", "m", "w" * 257, "1"), "writer id of 257 bytes, at most 256 are allowed"),
    (("METRICS.SET", "m", "g", "1", "WRITER", "w" * 257), "a writer id of 257 bytes, at most 256 are allowed"),
    (("METRICS.PUSH", "m", "w", "1", bytes(2**20 + 1)), "wrong batch: number of bytes 1048577 at byte 0, expected"),
    (("METRICS.DECLARE", "m", "x", "COUNTER", "HELP", "h" * 4097), "a help text of 4097 bytes, at most 4096 are"),
    (("METRICS.DECLARE", "m", "x", "COUNTER", "UNIT", "u" * 129), "a unit of 129 bytes, at most 128 are allowed"),
    (("METRICS.INC", "m", "n" * 513), "a family name of 513 bytes, at most 512 are allowed"),
    (("METRICS.INC", "m", "x", "LABELS", "1", "n" * 513, "1"), "a label name of 513 bytes, at most 512 are allowed"),
    (("METRICS.INC", "m", "x", "LABELS", "1", "n", "v" * 10**6), "1000001 bytes of labels, at most 65536 are allowed"),
    (("METRICS.INC", "m", "x", "EXEMPLAR", "1", "n", "v" * 10**6), "1000001 bytes of exemplar labels, at most 128"),
    (
        ("METRICS.OBSERVE", "m", "x", "1", "BUCKETS", "1", "1" * 65),
        "bucket bounds must be finite numbers in ascending order, found '" + "1" * 64 + "… (65 bytes, at most 64 are",
    ),
    (
        ("METRICS.OBSERVE", "m", "x", "1", "BUCKETS", str(10**6), "1"),
        "number of buckets 1000000 is out of range, at most 1000 are allowed",
    ),
    (
        ("METRICS.EXPOSE", "m", "NAMES", "257", *["a"] * 257),
        "number of names 257 is out of range, at most 256 are allowed",
    ),
    (("METRICS.EXPOSE", "m", "NAMES", "1", "a" * 5121), "sample name of 5121 bytes, at most 5120 are allowed"),
    (
        ("METRICS.EXPOSE", "m", "NAMES", "20", *["a" * 5000] * 20),
        "list of sample names of 100000 bytes, at most 65536 are allowed",
    ),
    (("METRICS.LOAD", "m", "1", "1", "x"), "METRICS.LOAD is sent by servers to each other"),
    (("METRICS.INFO", "m", "x"), "wrong number of arguments for 'METRICS.INFO' command"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[message[:50] for _, message in WRONG])
def test_an_error_names_the_wrong_value_and_what_is_allowed(
    redis_of_errors: RedisServer, words: tuple[object, ...], message: str
) -> None:
    assert refused(redis_of_errors, *words).lower().startswith(message.lower())


@pytest.fixture(scope="module")
def redis_of_errors() -> Iterator[RedisServer]:
    """One server for all errors: none of the commands changes anything."""
    with RedisServer(settings={"enable-debug-command": "local"}) as server:
        yield server


def test_commands_do_not_change_a_key_of_another_type(redis: RedisServer) -> None:
    redis.execute("SET", "text", "hello")
    for words in (
        ("METRICS.DECLARE", "text", "x", "COUNTER"),
        ("METRICS.INC", "text", "x"),
        ("METRICS.SET", "text", "x", "1"),
        ("METRICS.ADD", "text", "x", "1"),
        ("METRICS.OBSERVE", "text", "x", "1"),
        ("METRICS.PUSH", "text", "w", "1", b"\x01\x00\x00\x00\x00"),
        ("METRICS.LEAVE", "text", "w", "1"),
        ("METRICS.REPLACE", "text", "0", "LABELS", "1", "job", "j"),
        ("METRICS.EXPOSE", "text"),
        ("METRICS.GET", "text", "x"),
        ("METRICS.DEL", "text", "x"),
        ("METRICS.TTL", "text", "x", "1"),
        ("METRICS.INFO", "text"),
        ("METRICS.FAMILIES", "text"),
        ("METRICS.WRITERS", "text"),
    ):
        message = refused(redis, *words)
        assert message == "WRONGTYPE Operation against a key holding the wrong kind of value"
    redis.execute("METRICS.INC", "m", "hits")
    assert refused(redis, "GET", "m").startswith("WRONGTYPE")


# --- transactions, scripts, protocols ---------------------------------------------------------------------------------


@since_7
@pytest.mark.parametrize("protocol", [2, 3])
def test_replies_are_the_same_in_both_protocols(redis: RedisServer, protocol: int) -> None:
    with Redis(unix_socket_path=str(redis.socket), protocol=protocol, decode_responses=True) as client:

        def execute(*words: object) -> object:
            reply: object = client.execute_command(*words)
            return reply

        assert execute("METRICS.INC", "m", "hits", "BY", "0.5") == "0.5"
        assert execute("METRICS.SET", "m", "depth", "2") == "OK"
        assert execute("METRICS.GET", "m", "depth") == "2"
        assert execute("METRICS.GET", "m", "nothing") is None
        assert execute("METRICS.DEL", "m", "depth") == 1
        assert execute("METRICS.EXPOSE", "m", "CURSOR", "0") == ["0", "# TYPE hits_total counter\nhits_total 0.5\n"]
        info = execute("METRICS.INFO", "m")
        assert info["families"] == "1" if isinstance(info, dict) else "families" in info  # type: ignore[operator]
        assert isinstance(info, dict) == (protocol == 3)


def test_commands_work_in_transactions_and_scripts(redis: RedisServer) -> None:
    commands: list[list[object]] = [
        ["METRICS.INC", "m", "hits"],
        ["METRICS.INC", "m", "hits", "BY", 2],
        ["METRICS.EXPOSE", "m"],
    ]
    replies = redis.execute_all(commands, transaction=True)
    assert replies == ["1", "3", "# TYPE hits_total counter\nhits_total 3\n"]
    script = "redis.call('METRICS.INC', KEYS[1], 'hits') return redis.call('METRICS.GET', KEYS[1], 'hits')"
    assert redis.execute("EVAL", script, 1, "m") == "4"


@since_7
def test_reading_commands_are_marked_read_only(redis: RedisServer) -> None:
    redis.execute("METRICS.INC", "m", "hits")
    redis.execute("ACL", "SETUSER", "scraper", "on", "nopass", "%R~m*", "+@all")
    with Redis(unix_socket_path=str(redis.socket), username="scraper", password="x", decode_responses=True) as client:
        assert client.execute_command("METRICS.EXPOSE", "m").endswith("hits_total 1\n")
        assert client.execute_command("METRICS.GET", "m", "hits") == "1"
        assert "families" in client.execute_command("METRICS.INFO", "m")
        for words in (("INC", "m", "hits"), ("SET", "m", "x", "1"), ("DEL", "m", "hits"), ("EXPOSE", "other")):
            with pytest.raises(ResponseError, match=r"permissions|NOPERM"):
                client.execute_command(f"METRICS.{words[0]}", *words[1:])


def test_no_input_stops_the_server(redis: RedisServer) -> None:
    strange = [b"", b"\0", b"\xff" * 10, b"\r\n", b"%s%n", b"9" * 400, b"-1", b"18446744073709551616", b"A" * 10_000]
    names = [
        "DECLARE",
        "INC",
        "SET",
        "ADD",
        "OBSERVE",
        "PUSH",
        "LEAVE",
        "REPLACE",
        "EXPOSE",
        "GET",
        "DEL",
        "TTL",
        "INFO",
        "LOAD",
        "FAMILIES",
        "WRITERS",
    ]
    options = [b"LABELS", b"BUCKETS", b"TTL", b"CURSOR", b"NAMES", b"EPOCH", b"STAMP"]
    with Redis(unix_socket_path=str(redis.socket)) as client:
        pipeline = client.pipeline(transaction=False)
        for name, one, two, option in itertools.product(names, strange, strange, options):
            pipeline.execute_command(f"METRICS.{name}", "m", one, two, option, one)
        errors = [reply for reply in pipeline.execute(raise_on_error=False) if isinstance(reply, ResponseError)]
        assert not [error for error in errors if "internal error" in str(error)]
        assert max(len(str(error)) for error in errors) < 4096
    assert redis.execute("PING")
    assert "internal error" not in redis.log
