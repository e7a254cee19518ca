"""The page and the report in a real browser."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from queuebench.bench.stack import Service, Stack, clean_environment, free_port
from queuebench.measuring.records import FORMAT, encode
from queuebench.report.cli import main as report
from tests import ROOT
from tests.browser import HOSTILE, Browser
from tests.records import START, shipped, written

pytestmark = pytest.mark.browser

SQS = {"QUEUE": "SQS", "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:1"}
CALLS = {"SendMessageBatch": 1000, "ReceiveMessage": 1050, "DeleteMessageBatch": 1000, "empty_receives": 50}


def keep(results: Path, run_id: str, **changes: Any) -> str:
    """Write a run's record by hand, as the monitor would have."""
    more = changes.pop("more", {})
    summary = written(shipped(**changes) | {"run_id": run_id} | more)
    folder = results / run_id
    folder.mkdir(parents=True)
    (folder / "summary.json").write_bytes(orjson.dumps(summary))
    with (folder / "series.jsonl").open("wb") as lines:
        for second in range(1, 51):
            point = {
                "at": START + second,
                "published": 10_000,
                "received": min(10_000, 2_000 * second),
                "delivered": min(10_000, 200 * second),
                "queue": {"waiting": max(0, 10_000 - 2_000 * second), "in_flight": 0},
                "celery": {"waiting": max(0, 9_000 - 200 * second), "in_flight": 200},
                "dead_letters": second // 10,
                "cpu_seconds": {"worker": 0.2 * second, "subscriber": 0.5, "endpoint": 0.02 * second},
                "server_cpu_seconds": {"broker": 0.05 * second},
                "memory_bytes": {"broker": 10_000_000},
            }
            lines.write(orjson.dumps(point) + b"\n")
    return run_id


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of both queues, repeats, an invalid one, and one whose every text is an attack."""
    folder = tmp_path_factory.mktemp("results")
    for number in range(1, 4):
        keep(folder, f"20261123-10000{number}-redis", publish_seconds=0.1 * number)
    keep(folder, "20261123-110000-sqs", settings=SQS, publish_seconds=3.0, publisher={"requests": CALLS})
    keep(folder, "20261123-120000-bad", ended="not finished", settings={"WORKER_SLOTS": "50"})
    hostile = {"versions": {"python": HOSTILE, HOSTILE: "1"}, "label": HOSTILE}
    keep(folder, "20261123-130000-hostile", settings={"CHANNEL_NAME": HOSTILE}, more=hostile)
    return folder


@pytest.fixture(scope="module")
def monitor(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    argv = [sys.executable, "-m", "queuebench", "monitor", "--port", str(port), "--results", str(results)]
    log = tmp_path_factory.mktemp("monitor") / "log"
    service = Service("monitor", argv, clean_environment(), log, r"listens on http")
    service.start()
    yield f"http://127.0.0.1:{port}"
    service.stop()


def test_a_report_of_two_queues_opens_offline_with_its_charts_drawn(browser: Browser, results: Path) -> None:
    runs = ["20261123-100001-redis", "20261123-110000-sqs"]
    assert report([*runs, "--results", str(results), "--output", str(results / "two.html")]) == 0
    browser.open((results / "two.html").as_uri())
    assert browser.asked() == {"file://"}
    assert browser.complaints() == []
    charts = browser.charts()
    for title in ("Published", "Delivered", "In Celery", "Latency by stage", "Worker", "The queue alone"):
        drawn = [points for name, points in charts.items() if name.startswith(title)]
        assert drawn, f"{title} is not among {list(charts)}"
        assert drawn[0] > 20, (title, charts)
    text = browser.text()
    for said in (
        "Redis",
        "local SQS",
        "valid",
        "200 slots ÷ 1.0 s = 200/s",
        "1,000,000 in 1 hour: 278 slots",
    ):
        assert said in text
    # Never "SQS" alone where a queue is named.
    headings = [heading.text for heading in browser.driver.find_elements(By.CSS_SELECTOR, "h2, thead th")]
    assert "local SQS" in headings
    assert "SQS" not in headings


def test_repeats_are_one_column_with_their_spread(browser: Browser, results: Path) -> None:
    runs = [f"20261123-10000{number}-redis" for number in range(1, 4)]
    report([*runs, "--results", str(results), "--output", str(results / "three.html")])
    browser.open((results / "three.html").as_uri())
    assert "3 runs: 3 valid" in browser.text()
    assert "33,333/s … 100,000/s" in browser.text()
    assert browser.complaints() == []


def test_an_invalid_run_says_so_at_the_top_with_the_reason(browser: Browser, results: Path) -> None:
    run = "20261123-120000-bad"
    assert report([run, "--results", str(results)]) == 1
    browser.open((results / run / "report.html").as_uri())
    verdict = browser.driver.find_element(By.CSS_SELECTOR, ".verdict")
    assert verdict.text.startswith("NOT VALID: the run did not finish")
    assert verdict.location["y"] < 300


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_s_width_holds_the_page(browser: Browser, results: Path, dark: bool) -> None:
    runs = ["20261123-100001-redis", "20261123-110000-sqs"]
    report([*runs, "--results", str(results), "--output", str(results / "two.html")])
    browser.open((results / "two.html").as_uri(), width=390, height=844, dark=dark)
    assert browser.script("return document.scrollingElement.scrollWidth") <= 390
    assert all(points for points in browser.charts().values())
    paper = browser.script("return getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")


def test_a_report_is_of_bounded_size_and_draws_within_a_second(browser: Browser, results: Path) -> None:
    runs = ["20261123-100001-redis", "20261123-110000-sqs"]
    report([*runs, "--results", str(results), "--output", str(results / "two.html")])
    assert (results / "two.html").stat().st_size < 1_500_000
    browser.driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    seconds = []
    for _ in range(3):
        browser.open((results / "two.html").as_uri(), width=390, height=844)
        metrics = browser.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        seconds.append({metric["name"]: metric["value"] for metric in metrics}["TaskDuration"])
    # Of the page's own thread, so that what else the machine does is not in it.
    assert min(seconds) < 1.0, seconds


def test_a_chart_can_be_had_as_a_picture_with_its_title_and_legend(
    browser: Browser, results: Path, tmp_path: Path
) -> None:
    runs = ["20261123-100001-redis", "20261123-110000-sqs"]
    report([*runs, "--results", str(results), "--output", str(results / "two.html")])
    browser.open((results / "two.html").as_uri(), dark=True)
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    button = browser.driver.find_element(By.CSS_SELECTOR, "button[aria-label='Save “Delivered” as a PNG']")
    button.send_keys(Keys.ENTER)
    picture = tmp_path / "Delivered.png"
    browser.wait(picture.exists)
    data = picture.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    assert width >= 1500
    assert 600 < height < 1200
    assert browser.complaints() == []


def test_what_is_pointed_at_is_told_as_text(browser: Browser, results: Path) -> None:
    report(["20261123-130000-hostile", "--results", str(results)])
    browser.open((results / "20261123-130000-hostile" / "report.html").as_uri())
    rule = browser.driver.find_elements(By.CSS_SELECTOR, ".pointed_marks line")[9]
    browser.script("arguments[0].scrollIntoView({block: 'center'})", rule)
    ActionChains(browser.driver).move_to_element(rule).perform()
    tip = browser.wait(lambda: browser.driver.find_elements(By.CSS_SELECTOR, "#vg-tooltip-element.visible"))[
        0
    ]
    assert "at" in tip.text
    assert browser.script("return getComputedStyle(arguments[0]).opacity", rule) == "0.25"
    assert HOSTILE[:20] in tip.text
    assert tip.find_elements(By.CSS_SELECTOR, "img, b") == []
    assert browser.script("return window.pwned") is None


@pytest.mark.parametrize("live", [False, True])
def test_text_from_settings_and_records_is_shown_and_never_run(
    browser: Browser, results: Path, monitor: str, live: bool
) -> None:
    run = "20261123-130000-hostile"
    report([run, "--results", str(results)])
    page = f"{monitor}/?runs={run}" if live else (results / run / "report.html").as_uri()
    browser.open(page)
    assert HOSTILE.strip() in browser.text()
    assert browser.script("return window.pwned") is None
    assert browser.driver.find_elements(By.ID, "evil") == []
    assert browser.driver.find_elements(By.CSS_SELECTOR, "main img") == []
    assert browser.complaints() == []
    assert browser.asked() == {monitor if live else "file://"}


def test_the_monitor_s_page_lists_earlier_runs_and_compares_those_that_are_chosen(
    browser: Browser, monitor: str
) -> None:
    browser.open(monitor)
    rows = browser.driver.find_elements(By.CSS_SELECTOR, ".history tbody tr")
    assert len(rows) == 6
    for run in ("20261123-100001-redis", "20261123-110000-sqs"):
        browser.driver.find_element(By.CSS_SELECTOR, f"input[aria-label='choose {run}']").click()
    browser.driver.find_element(By.CSS_SELECTOR, ".history button").click()
    browser.wait(lambda: len(browser.driver.find_elements(By.CSS_SELECTOR, ".card")) == 2)
    assert browser.asked() == {monitor}
    assert browser.complaints() == []
    saved = browser.driver.find_element(By.LINK_TEXT, "Save as a file").get_attribute("href")
    kept = requests.get(str(saved), timeout=10)
    assert "attachment" in kept.headers["content-disposition"]
    assert "20261123-110000-sqs" in kept.text


@pytest.mark.parametrize("run", ["no-such-run", "..", "%2e%2e%2fetc", "../../etc/passwd"])
def test_a_run_that_is_not_there_is_an_empty_page_not_an_error(monitor: str, run: str) -> None:
    answer = requests.get(f"{monitor}/data?runs={run}", timeout=10)
    assert answer.status_code == 200
    assert answer.json()["runs"] == []


def test_a_run_is_shown_while_it_goes_on(browser: Browser, tmp_path: Path) -> None:
    with Stack(tmp_path, "REDIS", settings={"PUSH_SECONDS": "0.5", "WORKER_SLOTS": "50"}) as stack:
        monitor = stack.environment["MONITOR_URL"]
        browser.open(monitor)
        assert "No run yet" in browser.text()
        # No run ends before what there is to see of it was seen.
        stack.services["worker-1"].signal(signal.SIGSTOP)
        publisher = stack.publish("600", "--wait")
        browser.wait(lambda: "Live: Redis" in browser.text())
        assert "still running" in browser.text()
        browser.wait(lambda: len(browser.charts()) > 2)
        # Drawn once, and then given its figures: nothing flickers, and what has the focus keeps it.
        browser.script(
            """
            window.drawn = document.querySelector("figure svg");
            drawn.scrollIntoView({block: "center"});
            window.before = drawn.outerHTML;
            window.button = drawn.closest("figure").querySelector("button");
            button.focus();
            """
        )
        browser.wait(lambda: browser.script("return drawn.outerHTML !== before"))
        assert browser.script("return [drawn.isConnected, document.activeElement === button]") == [True, True]
        scraped = requests.get(monitor + "/metrics", timeout=10).text
        assert 'queue="Redis"' in scraped
        stack.services["worker-1"].signal(signal.SIGCONT)
        assert publisher.wait(timeout=120) == 0
        browser.wait(lambda: "valid: everything that was published was delivered" in browser.text())
        assert browser.asked() == {monitor}
        assert browser.complaints() == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["no-such-run"], "no run 'no-such-run'"),
        (["20261123-100001-redis", "--target", "0"], "a positive whole number is needed"),
        (["20261123-100001-redis", "--hours", "soon"], "a positive number of hours is needed"),
        (["20261123-100001-redis", "--output", "/proc/nowhere/x.html"], "choose another --output"),
        ([], "RUN"),
    ],
)
def test_bad_usage_of_report_is_one_clear_line(results: Path, arguments: list[str], complaint: str) -> None:
    argv = [sys.executable, "-m", "queuebench", "report", "--results", str(results), *arguments]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, env=clean_environment())
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_run_whose_monitor_was_killed_before_its_summary_was_written_gets_it_at_the_next_start(
    tmp_path: Path,
) -> None:
    record = shipped(100) | {"format": FORMAT, "moved_at": START}
    folder = tmp_path / "results" / record["run_id"]
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(encode(record))
    argv = [sys.executable, "-m", "queuebench", "monitor", "--port", str(free_port())]
    argv += ["--results", str(folder.parent)]
    service = Service("monitor", argv, clean_environment(), tmp_path / "log", r"listens on http")
    service.start()
    service.stop()
    summary = orjson.loads((folder / "summary.json").read_bytes())
    assert summary["counts"]["delivered"] == 100
    assert (folder / "report.html").exists()
