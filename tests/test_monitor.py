"""The monitor as strangers meet it: whatever is sent to it, it goes on, and every run still ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
import requests
from redis import Redis

from queuebench.bench.stack import Service, Stack, clean_environment, free_port
from queuebench.measuring.client import MonitorClient, MonitorError
from queuebench.measuring.records import FORMAT, Count, Stage, encode
from queuebench.measuring.telemetry import MOST_RUNS, Telemetry, peak_memory_mib
from tests.test_run import SETTINGS, report, totals

pytestmark = pytest.mark.slow

JSON = {"content-type": "application/json"}


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    give_up_at = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < give_up_at, "it did not happen in time"
        time.sleep(0.05)
    return found


class Front:
    """A monitor that runs, with the servers that it looks at."""

    def __init__(self, url: str, service: Service, servers: Stack, results: Path) -> None:
        self.url, self.service, self.servers, self.results = url, service, servers, results
        self.client = MonitorClient(url)

    def post(self, path: str, body: Any, **headers: str) -> requests.Response:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return requests.post(self.url + path, data=data, headers=JSON | headers, timeout=30)

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.url + path, headers=headers, timeout=30)

    def join(self, messages: int = 0, process: str = "p") -> str:
        return self.client.join(process, 0, messages, SETTINGS).run_id

    def end(self, run: str, process: str = "p") -> dict[str, Any]:
        self.client.leave(run, process, 0, [])
        return until(lambda: self.client.progress(run)["summary"])  # type: ignore[no-any-return]


def front_desk(servers: Stack, folder: Path) -> Iterator[Front]:
    port, results = free_port(), folder / "results"
    argv = [sys.executable, "-m", "queuebench", "monitor", "--port", str(port), "--results", str(results)]
    url = servers.environment["REDIS_PUBSUB_URL"]
    environment = clean_environment() | {"REDIS_PUBSUB_URL": url, "REDIS_CELERY_URL": url.replace("/0", "/1")}
    with Redis.from_url(environment["REDIS_CELERY_URL"]) as broker:
        broker.flushdb()
    service = Service("monitor", argv, environment, folder / "log", r"listens on http")
    service.start()
    yield Front(f"http://127.0.0.1:{port}", service, servers, results)
    service.kill()


@pytest.fixture
def front(servers: Stack, redis: Redis, tmp_path: Path) -> Iterator[Front]:
    """A monitor of the test's own."""
    yield from front_desk(servers, tmp_path)


@pytest.fixture(scope="module")
def desk(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """One that tests share which leave it as it was."""
    yield from front_desk(servers, tmp_path_factory.mktemp("desk"))


HUGE = b'{"format":%d,"process":"x","burst":0,"messages":1' % FORMAT
JOIN = {"format": FORMAT, "process": "x", "burst": 0, "messages": 1, "settings": SETTINGS}


@pytest.mark.parametrize(
    "body",
    [
        {**JOIN, "settings": {}},
        {**JOIN, "settings": {**SETTINGS, "PUSH_SECONDS": "soon"}},
        {**JOIN, "settings": {**SETTINGS, "MESSAGES_PER_DAY": -1}},
        {**JOIN, "settings": {**SETTINGS, "PUBLISHER_DELAY": None}},
        {**JOIN, "messages": -5},
        {**JOIN, "faster": 0},
        {**JOIN, "messages": 1.5},
        {**JOIN, "process": ""},
        {**JOIN, "process": "x" * 1000},
        {**JOIN, "format": FORMAT - 1},
        {k: v for k, v in JOIN.items() if k != "format"},
        [],
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        HUGE + b"0" * 400 + b',"settings":{}}',
    ],
    ids=lambda body: str(body)[:40],
)
def test_a_request_to_join_that_cannot_be_is_refused_and_leaves_nothing(desk: Front, body: Any) -> None:
    before = list(desk.results.iterdir())
    answer = desk.post("/join", body)
    assert 400 <= answer.status_code < 500
    assert answer.text.count("\n") == 1
    assert desk.get("/data").json()["open"] is None
    assert list(desk.results.iterdir()) == before


REPORT = msgspec.to_builtins(report("w", "worker", 1000.0, runs=totals({Count.PUSHED: 1})))


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "king"},
        {"cpu_seconds": -1},
        {"cpu_seconds": "much"},
        {"started_at": 1e300},
        {"requests": {"a": -1}},
        {"unassigned": {"unknown": 1}},
        {"runs": {"run": {"counts": {"pushed": -1}}}},
        {"runs": {"run": {"latencies": {"push": {"max_ms": 1e300}}}}},
        {"runs": {"run": {"latencies": {"lunch": {}}}}},
        {"runs": {"run": {"latencies": {"push": {"buckets": {"1000000000": 1}}}}}},
        {"runs": {"run": {"active": {"push": [[1, 2, 3]]}}}},
        {"runs": {"run": {"accepted": [[-1, 5]]}}},
        {"clock": {"offset_seconds": None}},
        {"number": -1},
        {"format": 1},
        {"process": "x" * 5000},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_a_report_that_cannot_be_is_refused_and_the_run_goes_on_to_its_end(
    desk: Front, changes: dict[str, Any]
) -> None:
    run = desk.join()
    told = orjson.dumps(REPORT | changes).replace(b'"run":{', f'"{run}":{{'.encode())
    assert desk.post("/report", told).status_code in (400, 409)
    assert desk.get("/data").status_code == 200
    assert desk.end(run)["ended"] == "complete"


@pytest.mark.parametrize("accepted", [[[0, 10**15]], [[10, 5]]], ids=str)
def test_numbers_that_cannot_be_keep_no_run_from_its_end(front: Front, accepted: list[list[int]]) -> None:
    run = front.join()
    leave = {"format": FORMAT, "process": "p", "burst": 0, "accepted": accepted}
    assert front.post(f"/runs/{run}/leave", leave).status_code == 200
    assert front.get("/metrics").status_code == 200
    assert until(lambda: front.client.progress(run)["summary"])["ended"]
    assert front.join(process="next") != run


@pytest.mark.parametrize(
    ("number", "shown"), [(b"NaN", False), (b"Infinity", False), (b"1e999", False), (b"1e308", False)]
)
def test_no_number_reaches_a_record_that_no_record_can_hold(desk: Front, number: bytes, shown: bool) -> None:
    run = desk.join()
    body = orjson.dumps(REPORT | {"max_rss_mib": 12345.5}).replace(b"12345.5", number)
    assert desk.post("/report", body).ok is shown
    desk.end(run)


def test_a_message_with_an_impossible_time_is_left_out_of_the_latencies_and_counted(front: Front) -> None:
    run = front.join()
    telemetry = Telemetry("subscriber", front.url)
    telemetry.start()
    for intended_at in (1e308, -1e308, float("nan"), float("inf"), 1_700_000_000_000.0):
        waits = ((time.time() - intended_at, 1),)
        telemetry.record(run, Stage.QUEUE_WAIT, counts={Count.RECEIVED: 1}, latencies=waits)
        telemetry.record(run, Stage.END_TO_END, durations=(0.5, time.time() - intended_at))
    telemetry.record(run, Stage.QUEUE_WAIT, latencies=((0.25, 1),))
    telemetry.close()
    summary = front.end(run)
    assert summary["counts"]["received"] == 5
    assert summary["latency_ms"]["queue_wait"]["count"] == 1
    assert summary["latency_ms"]["end_to_end"]["count"] == 5
    record = orjson.loads((front.results / run / "run.json").read_bytes())
    (process,) = record["processes"].values()
    assert process["totals"]["counts"]["implausible"] == 10


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "", "a b", "[::1", "localhost.evil.example"]
)
def test_a_host_that_is_not_ours_is_refused(desk: Front, host: str) -> None:
    assert desk.get("/data", Host=host).status_code in (400, 403)
    assert desk.post("/join", JOIN, Host=host).status_code in (400, 403)
    assert desk.get("/data").json()["open"] is None


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "monitor", "monitor:8080", "10.0.0.7", "[::1]:8080"]
)
def test_a_host_that_can_be_ours_is_let_in(desk: Front, host: str) -> None:
    assert desk.get("/data", Host=host).status_code == 200


def test_a_name_that_monitor_hosts_names_is_let_in(front: Front) -> None:
    front.service.kill()
    front.service.environment["MONITOR_HOSTS"] = "queue.bench.example, other.example"
    front.service.start()
    assert front.get("/data", Host="queue.bench.example:8080").status_code == 200
    assert front.get("/data", Host="third.example").status_code == 403


@pytest.mark.parametrize("path", ["/join", "/report", "/runs/x/leave"])
@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": ""},
        {"origin": "http://evil.example"},
        {"origin": "null"},
    ],
    ids=str,
)
def test_a_foreign_web_page_can_send_nothing(desk: Front, path: str, headers: dict[str, str]) -> None:
    assert desk.post(path, JOIN, **headers).status_code in (403, 415)
    assert desk.get("/data").json()["open"] is None


def raw(front: Front, method: str, path: str, *headers: str, body: bytes = b"") -> int:
    """Send headers exactly as they are, and return the status."""
    head = [f"{method} {path} HTTP/1.1", *headers, f"Content-Length: {len(body)}", "Connection: close"]
    with socket.create_connection(("127.0.0.1", int(front.url.rsplit(":", 1)[1])), 30) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + body)
        return int(connection.makefile("rb").readline().split()[1])


def test_headers_that_can_be_read_in_two_ways_are_refused(front: Front) -> None:
    ours, theirs = "Host: localhost", "Host: evil.example"
    for hosts in (
        [theirs, ours],
        [ours, theirs],
        ["Host: evil.example@localhost"],
        ["Host: localhost#.evil.example"],
        ["Host: localhost/.evil.example"],
        ["Host: localhost?.evil.example"],
        ["Host: localhost:evil.example"],
        ["Host: 127.0.0.1.evil.example"],
        ["Host: [localhost]"],
        ["Host: \xff"],
        [],
    ):
        assert raw(front, "GET", "/data", *hosts) in (400, 403), hosts
    json, body = "Content-Type: application/json", orjson.dumps(JOIN)
    for headers in (
        [json, "Content-Type: text/plain"],
        ["Content-Type: text/plain", json],
        [json, "Origin: http://evil.example", "Origin: http://localhost"],
        [json, "Origin: http://localhost", "Origin: http://evil.example"],
        [json, "Origin: http://localhost:81"],
        [json, "Origin: http://localhost http://evil.example"],
        [json, "Origin: http://evil.example@localhost"],
        [json, "Origin:"],
        ["Content-Type: application/json, text/plain"],
        ["Content-Type: application/jsonp"],
    ):
        assert raw(front, "POST", "/join", ours, *headers, body=body) in (400, 403, 415), headers
    assert front.get("/data").json()["open"] is None
    for host in ("localhost.", "[fe80::1%25eth0]:80", "[::ffff:127.0.0.1]", "monitor_1:", "127.0.0.1:65535"):
        assert raw(front, "GET", "/data", f"Host: {host}") == 200, host
    kind = "Content-Type: Application/JSON; charset=utf-8"
    assert raw(front, "POST", "/join", "Host: [::1]:81", kind, "Origin: http://[::1]:81", body=body) == 200


def test_folders_of_results_with_odd_names_hide_no_run(front: Front) -> None:
    run = front.join()
    front.end(run)
    summary = (front.results / run / "summary.json").read_bytes()
    for name in (b"\xff\xfe", b"new\nline", b"<script>", "\N{CAT}".encode()):
        folder = os.fsencode(front.results) + b"/" + name
        os.mkdir(folder)  # noqa: PTH102 - a name that is no text
        with open(folder + b"/summary.json", "wb") as file:  # noqa: PTH123
            file.write(summary)
    for number in range(300):
        (front.results / f"zz-{number}").mkdir()
    assert [earlier["run_id"] for earlier in front.get("/data").json()["history"]] == [run]
    assert front.get("/metrics").status_code == 200


@pytest.mark.parametrize("run", ["a%00b", "..", "%2e%2e%2fx", "x" * 5000, "%ff", "a/b", "🙂"])
def test_a_run_that_cannot_be_is_not_there(desk: Front, run: str) -> None:
    assert desk.get(f"/runs/{run}/progress").status_code == 404
    assert desk.get(f"/data?runs={run}").status_code == 200
    assert desk.get(f"/report.html?runs={run}").status_code == 200


@pytest.fixture
def stopped_redis(front: Front) -> Iterator[None]:
    front.servers.services["redis"].signal(signal.SIGSTOP)
    yield
    front.servers.services["redis"].signal(signal.SIGCONT)


def test_with_a_redis_that_hangs_health_and_page_answer_at_once(front: Front, stopped_redis: None) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path.cwd())!r})\n"
         "from tests.test_run import SETTINGS\nfrom queuebench.measuring.client import MonitorClient\n"
         f"MonitorClient({front.url!r}).join('p', 0, 1, SETTINGS)"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: waiting.poll() is None)
        for _ in range(5):
            for path in ("/health", "/", "/data", "/health?host=nobody"):
                began = time.monotonic()
                assert front.get(path).status_code in (200, 503)
                # The calls that it waits for time out after 5 and 10 s.
                assert time.monotonic() - began < 4.0, path
            time.sleep(0.2)
    finally:
        waiting.kill()
        waiting.wait()


@pytest.mark.parametrize(
    "change",
    [
        lambda record: b"{",
        lambda record: b"",
        lambda record: record.replace(b'"settings":{', b'"settings":{"x":'),
        lambda record: record.replace(b'"PUSH_SECONDS"', b'"PULL_SECONDS"'),
        lambda record: record.replace(b'"format":%d' % FORMAT, b'"format":1'),
        lambda record: record.replace(b'"run_id":"', b'"run_id":"other'),
        lambda record: record.replace(b'"moved_at":', b'"moved_at":null,"x":'),
    ],
)
def test_a_record_that_cannot_be_read_is_set_aside_at_a_restart_and_the_next_run_is_sound(
    front: Front, change: Callable[[bytes], bytes]
) -> None:
    bad = front.join(10)
    front.service.kill()
    path = front.results / bad / "run.json"
    path.write_bytes(change(path.read_bytes()))
    front.service.start()
    run = front.join()
    assert run != bad
    assert front.end(run)["ended"] == "complete"
    assert not path.exists()
    assert (front.results / bad / "set-aside.txt").read_text().count("\n") == 1
    with pytest.raises(MonitorError, match="the run was set aside: "):
        front.client.progress(bad)


def test_a_process_that_dies_before_its_run_is_named_by_the_monitor_is_counted_in_it(front: Front) -> None:
    run = front.join()
    telemetry = Telemetry("worker", front.url)
    for number in range(MOST_RUNS + 50):
        telemetry.record(f"stranger-{number}", Stage.PUSH, counts={Count.PUSHED: 1})
    telemetry.start()
    telemetry.record(run, Stage.PUSH, counts={Count.PUSHED: 7})
    telemetry.close()
    assert front.end(run)["counts"]["pushed"] == 7


def test_runs_that_strangers_name_cost_a_process_no_memory_without_end() -> None:
    telemetry = Telemetry("endpoint")
    for number in range(20_000):
        telemetry.record(f"stranger-{number}", Stage.ANSWER, counts={Count.ARRIVED: 1}, durations=(0.1,))
    report = telemetry._report({run: totals.frozen() for run, totals in telemetry._runs.items()}, False)
    assert len(encode(report)) < 20_000
    assert sum(found.counts[Count.ARRIVED] for found in report.runs.values()) == 20_000


def test_a_monitor_that_is_none_stops_no_role_and_is_told_of_once(
    capfd: pytest.CaptureFixture[str], held: Any
) -> None:
    held.may_answer.set()
    telemetry = Telemetry("worker", held.url.rsplit("/", 1)[0])
    telemetry.start()
    for _ in range(3):
        telemetry.record("run", Stage.PUSH, counts={Count.PUSHED: 1})
        telemetry._send(ended=False)
    telemetry.close(patience_seconds=0.0)
    said = [line for line in capfd.readouterr().err.splitlines() if "MONITOR_URL" in line]
    assert len(said) == 1
    with pytest.raises(MonitorError):
        MonitorClient(held.url.rsplit("/", 1)[0]).join("p", 0, 1, {})


def test_the_peak_of_memory_is_a_process_s_own_and_not_that_of_whoever_started_it() -> None:
    ask = "from queuebench.measuring.telemetry import peak_memory_mib; print(peak_memory_mib())"
    fat = f"import os, sys; x = bytearray(4 * 10**8); os.execv(p := sys.executable, [p, '-c', {ask!r}])"
    found = subprocess.run([sys.executable, "-c", fat], capture_output=True, text=True, check=True)
    assert 5.0 < float(found.stdout) < 200.0
    assert peak_memory_mib() > 5.0


def test_clocks_are_compared_anew_so_that_an_old_comparison_is_not_believed_for_ever() -> None:
    telemetry = Telemetry("worker")
    telemetry._compare_clocks(100.0, 100.001, 90.0)
    for second in range(200):
        telemetry._compare_clocks(200.0 + second, 200.01 + second, 200.005 + second)
    assert telemetry._report({}, False).clock.offset_seconds == pytest.approx(0.0, abs=0.01)


def test_nothing_of_the_monitor_is_left_when_it_is_asked_to_stop(front: Front) -> None:
    assert front.service.stop() == 0
    with contextlib.suppress(ProcessLookupError):
        assert front.service.process is not None
        os.kill(front.service.process.pid, 0)
        raise AssertionError("it still runs")
