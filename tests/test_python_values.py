"""The application's own metrics have the meaning that prometheus_client defines, over all processes."""

from collections import Counter
from collections.abc import Iterator

import pytest

from harness import Gunicorn, Scrape, eventually, scrape
from harness.scrape import OPENMETRICS

PER_PROCESS = ("all", "liveall")


@pytest.fixture
def two() -> Iterator[Gunicorn]:
    """Two workers; either of them may answer a request."""
    with Gunicorn("apps.numbers:app", workers=2) as gunicorn:
        yield gunicorn


def page(gunicorn: Gunicorn) -> Scrape:
    """Returns the page once it shows every worker, and one has loaded the application."""
    return eventually(lambda: _whole_page(gunicorn))


def _whole_page(gunicorn: Gunicorn) -> Scrape:
    seen = scrape(gunicorn.metrics_url)
    assert len(seen.samples("gunicorn_worker_state", state="running")) == gunicorn.workers
    assert seen.sum("number_starts_total") > 0
    return seen


def test_gauges_of_one_process_show_the_value_that_it_set() -> None:
    """This holds in every mode. A gauge that is shown by process has the pid label of the process that set it."""
    with Gunicorn("apps.numbers:app") as gunicorn:
        pid = gunicorn.get("/?set=7").body.decode()
        seen = page(gunicorn)
    for mode in ("min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"):
        assert seen.value(f"number_{mode}") == 7, mode
    for mode in PER_PROCESS:
        assert seen.value(f"number_{mode}", pid=pid) == 7, mode


def test_live_gauges_end_with_their_worker_and_the_others_stay() -> None:
    """The worker ends by SIGKILL. The new worker's own gauges begin at zero."""
    with Gunicorn("apps.numbers:app") as gunicorn:
        pid = int(gunicorn.get("/?set=7").body)
        gunicorn.kill_worker(pid)
        eventually(lambda: gunicorn.worker_pids() not in ([pid], []))
        eventually(lambda: gunicorn.get("/").status, equals=200)
        eventually(lambda: page(gunicorn).value("number_livesum"), equals=0)
        seen = page(gunicorn)
        assert seen.value("number_sum") == 7
        assert seen.value("number_max") == 7
        assert seen.value("number_livemax") == 0
        assert seen.value("number_mostrecent") == 7
        assert seen.value("number_all", pid=str(pid)) == 7
        assert seen.samples("number_liveall", pid=str(pid)) == []


def test_all_types_are_summed_over_workers(two: Gunicorn) -> None:
    """The sum is the same whichever worker has answered."""
    for _ in range(20):
        two.get("/?event=a&observe=3&wait=2")
    seen = page(two)
    assert seen.value("number_events_total", kind="a") == 20
    assert seen.value("number_sizes_count") == 20
    assert seen.value("number_sizes_sum") == 60
    assert seen.value("number_sizes_bucket", le="1.0") == 0
    assert seen.value("number_sizes_bucket", le="10.0") == 20
    assert seen.value("number_waits_count") == 20
    assert seen.value("number_waits_sum") == 40
    # Each worker has imported the module itself.
    eventually(lambda: page(two).value("number_starts_total"), equals=2)


def test_counts_at_import_count_once_with_preload() -> None:
    """The arbiter has imported the module, and its workers have not."""
    with Gunicorn("apps.numbers:app", workers=2, arguments=["--preload"]) as gunicorn:
        for _ in range(10):
            gunicorn.get("/?event=a")
        seen = page(gunicorn)
        assert seen.value("number_starts_total") == 1
        assert seen.value("number_events_total", kind="a") == 10


def test_a_counter_that_is_reset_does_not_go_down() -> None:
    """For a scraper a counter only ever grows."""
    with Gunicorn("apps.numbers:app") as gunicorn:
        gunicorn.get("/?event=a&event=a&event=a")
        gunicorn.get("/?reset=a&event=a")
        assert page(gunicorn).value("number_events_total", kind="a") == 4


def test_a_removed_gauge_is_gone_and_starts_at_zero_when_set_again() -> None:
    """`remove` and `clear` work across processes."""
    with Gunicorn("apps.numbers:app") as gunicorn:
        gunicorn.get("/?level=a&level=a&level=b&event=a")
        assert page(gunicorn).value("number_level", kind="a") == 2
        gunicorn.get("/?remove=a")
        assert page(gunicorn).samples("number_level", kind="a") == []
        assert page(gunicorn).value("number_level", kind="b") == 1
        gunicorn.get("/?clear=")
        assert page(gunicorn).samples("number_level") == []
        gunicorn.get("/?level=a&event=a")
        assert page(gunicorn).value("number_level", kind="a") == 1
        assert page(gunicorn).value("number_events_total", kind="a") == 2


@pytest.mark.parametrize("removal", ["remove=a", "remove_by=a", "clear="])
def test_a_process_removes_its_own_values_and_no_others(two: Gunicorn, removal: str) -> None:
    """Other processes keep their values of the same label set."""
    shares: Counter[str] = Counter()

    def both_have_set_it() -> bool:
        shares[two.get("/?event=a&level=a&level=b").body.decode()] += 1
        return len(shares) == 2

    eventually(both_have_set_it)
    assert page(two).value("number_level", kind="a") == shares.total()
    remover = two.get(f"/?{removal}").body.decode()
    del shares[remover]
    assert page(two).value("number_level", kind="a") == shares.total()
    if removal != "clear=":
        assert page(two).value("number_level", kind="b") > shares.total()


def test_a_forked_child_counts_from_zero_in_its_own_store() -> None:
    """The application checks both, and fails otherwise; the page also has the counts of the child."""
    with Gunicorn("apps.numbers:app") as gunicorn:
        gunicorn.get("/?event=forked")
        assert gunicorn.get("/?fork=").status == 200
        eventually(lambda: page(gunicorn).value("number_events_total", kind="forked"), equals=1 + 1000)


def test_metrics_that_exist_already_keep_their_numbers() -> None:
    """A configuration file may make some before the worker class is loaded."""
    config = (
        "from prometheus_client import Counter, Histogram\n"
        "early = Counter('early_events', 'Made before', ['kind'])\n"
        "early.labels('a').inc(3)\n"
        "Histogram('early_sizes', 'Made before', buckets=(1, 10)).observe(5)\n"
    )
    with Gunicorn("apps.numbers:app", config=config) as gunicorn:
        eventually(lambda: page(gunicorn).value("early_events_total", kind="a"), equals=3)
        seen = page(gunicorn)
        assert seen.value("early_sizes_bucket", le="10.0") == 1
        assert seen.value("early_sizes_sum") == 5


def openmetrics(gunicorn: Gunicorn) -> Scrape:
    """Returns the same page in OpenMetrics, which shows more than text."""
    page(gunicorn)
    return scrape(gunicorn.metrics_url, accept=OPENMETRICS)


@pytest.mark.parametrize("arguments", [[], ["--preload"]], ids=["each-worker-loads", "preloaded"])
def test_infos_and_enums_show_the_last_values_of_the_workers(arguments: list[str]) -> None:
    """The page shows them whichever worker has loaded the application; a later value replaces the earlier one."""
    with Gunicorn("apps.numbers:app", arguments=arguments) as gunicorn:
        seen = openmetrics(gunicorn)
        assert seen.families["number_build"].type == "info"
        assert [s.labels for s in seen.samples("number_build_info")] == [{"stage": "test", "version": "1"}]
        assert seen.families["number_phase"].type == "stateset"
        assert phases(seen) == {"starting": 1, "running": 0, "stopping": 0}
        gunicorn.get("/?version=2&phase=running")
        seen = openmetrics(gunicorn)
        assert [s.labels for s in seen.samples("number_build_info")] == [{"stage": "test", "version": "2"}]
        assert phases(seen) == {"starting": 0, "running": 1, "stopping": 0}


def phases(seen: Scrape) -> dict[str, float]:
    """Returns the value of each state."""
    return {sample.labels["number_phase"]: sample.value for sample in seen.samples("number_phase")}


def test_units_are_on_the_page() -> None:
    """`prometheus_client` does not pass units to its values."""
    with Gunicorn("apps.numbers:app") as gunicorn:
        assert openmetrics(gunicorn).families["number_distance_metres"].unit == "metres"


def test_exemplars_are_those_of_the_last_observation_of_their_bucket(two: Gunicorn) -> None:
    """OpenMetrics shows them, whichever worker made the observation."""
    for size in (3, 4, 0.5):
        two.get(f"/?traced={size}")
    seen = openmetrics(two)
    shown = {s.labels["le"]: s.exemplar for s in seen.samples("number_sizes_bucket")}
    assert shown["1.0"] is not None
    assert shown["10.0"] is not None
    assert (shown["1.0"].labels, shown["1.0"].value) == ({"trace_id": "abc"}, 0.5)
    assert (shown["10.0"].labels, shown["10.0"].value) == ({"trace_id": "abc"}, 4)
    event = seen.samples("number_events_total", kind="traced")[0].exemplar
    assert event is not None
    assert event.labels == {"trace_id": "def"}
