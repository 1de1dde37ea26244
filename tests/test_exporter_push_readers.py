"""What `push` reads and refuses, compared with promtool and prometheus_client, on files with one fault each."""

import random
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from harness.paths import EXPORTER, built
from harness.process import clean_environment

TEXT = """\
# HELP jobs_total Jobs of "all" kinds\\nand \\\\ more
# TYPE jobs_total counter
jobs_total{queue="mail",kind="a \\"b\\""} 3
jobs_total{queue="pay"} 1.5e3
# TYPE depth gauge
depth -4.25
depth{zone="a",} +Inf
# HELP wait_seconds Time
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.5"} 1
wait_seconds_bucket{le="1"} 4
wait_seconds_bucket{le="+Inf"} 6
wait_seconds_sum 7.5
wait_seconds_count 6
# TYPE size_bytes summary
size_bytes{quantile="0.5"} 3
size_bytes_sum 90
size_bytes_count 9
plain_value 1
"""
OPENMETRICS = """\
# TYPE jobs counter
# HELP jobs Jobs
jobs_total{queue="mail"} 3 # {trace="a"} 1 1600000000.5
jobs_created{queue="mail"} 1600000000
# TYPE depth_bytes gauge
# UNIT depth_bytes bytes
depth_bytes -4.25
# TYPE wait histogram
wait_bucket{le="0.5"} 1
wait_bucket{le="+Inf"} 6 # {trace="b"} 0.7
wait_count 6
wait_sum 7.5
# TYPE build info
build_info{version="1"} 1
# TYPE mode stateset
mode{mode="on"} 1
mode{mode="off"} 0
# EOF
"""
# Characters that matter to a reader of these formats, and one that does not.
CHARACTERS = ' \t\n\r{}=",#\\_:-.+0129eExXinfNa\x00\x0bé\ufeff'
NUMBERS = [
    "",
    "1e400",
    "-1e999",
    "0x10",
    "1_000",
    "--1",
    "1.2.3",
    "NaN",
    "inf",
    "-Inf",
    "0.5",
    "1 2",
    "1,5",
    "١",
    "1e",
    "-1",
]


def faults(page: str, count: int, seed: int) -> Iterator[str]:
    """Yields files with one fault each: a character or line that is missing, double, changed or misplaced."""
    choice = random.Random(seed)
    numbers = list(re.finditer(r"(?<=[ \"])[-+]?[\dI][\w.+-]*(?=[\"\n ])", page))
    for _ in range(count):
        at = choice.randrange(len(page))
        lines = page.splitlines(keepends=True)
        one, other = choice.sample(range(len(lines)), 2)
        number = choice.choice(numbers)
        kind = choice.randrange(6)
        if kind == 0:
            yield page[:at] + page[at + 1 :]
        elif kind == 1:
            yield page[:at] + choice.choice(CHARACTERS) + page[at:]
        elif kind == 2:
            yield page[:at] + choice.choice(CHARACTERS) + page[at + 1 :]
        elif kind == 3:
            yield page[: number.start()] + choice.choice(NUMBERS) + page[number.end() :]
        elif kind == 4:
            yield "".join(line for place, line in enumerate(lines) if place != one)
        else:
            lines[one], lines[other] = lines[other], lines[one]
            yield "".join(lines)


def our_refusal(page: str) -> str | None:
    """Returns the line in which `push` refuses a file; `None` if only Redis is missing."""
    done = subprocess.run(
        [str(built(EXPORTER)), "push", "--job", "j", "--format", "text"],
        env=clean_environment({"REDIS_HOST": "127.0.0.1", "REDIS_PORT": "1", "REDIS_ENABLED": "true"}),
        input=page.encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    error = done.stderr.decode()
    if done.returncode == 69:
        return None
    assert done.returncode == 65, done
    assert error.count("\n") == 1, error
    return error.strip()


def is_read_by_promtool(page: str) -> bool:
    """Exit code 3 is advice about names."""
    done = subprocess.run(["promtool", "check", "metrics"], input=page.encode(), capture_output=True, check=False)
    return done.returncode in (0, 3)


def is_read_by(parser: Callable[[str], object], page: str) -> bool:
    """Whether a parser of prometheus_client reads a page to its end; some faults raise other errors than ValueError."""
    try:
        list(parser(page))  # type: ignore[call-overload]
    except Exception:
        return False
    return True


# Files that the others read and `push` refuses, each for a reason of the registry or of a stricter specification.
STRICTER = {
    "a time stamp": "a registry shows present values only",
    "has this sample twice": "a series has one value",
    "is there twice": "a series has one value",
    "is reserved": "the registry makes le and quantile itself",
    "a counter is": "a counter is finite and not negative (OpenMetrics)",
    "no count of observations": "a count is a whole number (OpenMetrics)",
    "counts less than the one below it": "buckets are cumulative (text format)",
    'le="+Inf" is missing': "a histogram has the bucket +Inf (text format)",
    "_count is": "_count equals the bucket +Inf (text format)",
    "it has no _sum": "each series of a page has a sum",
    "it has no _count": "a summary without _count has no number of observations",
    "it has neither": "a histogram without buckets and _count has no observations",
    "is a histogram and has no such sample": "a histogram has buckets, a sum and a count",
    "is a summary and has no quantile": "a summary has quantiles, a sum and a count",
    "both have samples of the name": "one sample belongs to one family",
    "another type already": "a family has one type",
    "has a control character": "no page can carry it",
    "no bound": "a bound is a number",
    "quantile ": "a quantile is between 0 and 1 (OpenMetrics)",
    "bucket bounds must be": "bounds are finite",
    "a label name must not be empty": "no page can carry it",
    "has a NUL": "no scraper reads it",
    "has no le": "each bucket has a bound",
    '"١"': "Python's float() reads digits of other scripts",
    "is too large": "it would become +Inf",
    '"{0" is no number': "a second set of labels",
    "carriage return": "the rest of the line would be lost",
    "label": "labels have a name, a value and a comma between them",
}


@pytest.mark.parametrize("seed", range(4))
def test_text_is_refused_that_no_reader_accepts_and_read_that_all_accept(seed: int) -> None:
    pages = list(faults(TEXT, 150, seed))
    with ThreadPoolExecutor(4) as pool:
        ours = list(pool.map(our_refusal, pages))
        promtool = list(pool.map(is_read_by_promtool, pages))
    wrong = []
    for page, refusal, first in zip(pages, ours, promtool, strict=True):
        second = is_read_by(parse_text, page)
        if refusal is None and not first and not second:
            wrong.append(("no other reader accepts it", difference(TEXT, page)))
        if refusal is not None and first and second and not any(reason in refusal for reason in STRICTER):
            wrong.append((refusal, difference(TEXT, page)))
        if refusal is not None:
            assert re.match(r"error: standard input: line \d+: ", refusal), refusal
    assert wrong == []
    assert sum(refusal is not None for refusal in ours) > 30


# Files that `push` reads and prometheus_client's reader of OpenMetrics refuses.
LAXER = [
    r"Clashing name|Invalid metric grouping|metadata after samples|More than one|blank line|order",
    r"Unit does not match|Units not allowed",  # the registry shows a unit only where a format allows it
    r"after # EOF|Missing # EOF",  # joined files, and text 0.0.4
    r"_sum|_count must",  # a histogram without a count has that of +Inf
    r"Invalid TYPE",  # untyped, of text 0.0.4
    r"Invalid le label: .*[iI][nN][fF]\"",  # other spellings of infinity
    r"could not convert string to float: ''|Invalid value: '[^']*\\t'|\r",  # other blanks and line ends
    r"Invalid line",  # any other comment, of text 0.0.4
]


@pytest.mark.parametrize("seed", range(4))
def test_openmetrics_is_refused_that_its_reader_refuses(seed: int) -> None:
    pages = list(faults(OPENMETRICS, 100, seed))
    with ThreadPoolExecutor(4) as pool:
        ours = list(pool.map(our_refusal, pages))
    wrong = []
    for page, refusal in zip(pages, ours, strict=True):
        try:
            list(parse_openmetrics(page))  # type: ignore[no-untyped-call]
        except Exception as error:
            if refusal is None and not any(re.search(laxer, str(error)) for laxer in LAXER):
                wrong.append((repr(error), difference(OPENMETRICS, page)))
            continue
        if refusal is not None and not any(reason in refusal for reason in STRICTER):
            wrong.append((refusal, difference(OPENMETRICS, page)))
    assert wrong == []


def difference(page: str, changed: str) -> list[str]:
    """Returns the changed lines."""
    known = set(page.split("\n"))
    return [line for line in changed.split("\n") if line not in known] or ["lines are missing or in another order"]
