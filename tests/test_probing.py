"""How the monitor looks at servers and at the endpoint, whatever those say."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import orjson
import pytest
from redis import Redis

from queuebench.bench.stack import Stack, free_port
from queuebench.broker import dead_letters
from queuebench.broker.broker import OPEN_RUN, Broker
from queuebench.figures.records import Verdict
from queuebench.figures.summary import summarise
from queuebench.measuring.records import (
    FORMAT,
    Count,
    Ending,
    JoinRequest,
    LeaveRequest,
    RunRecord,
    Tally,
    decode,
    encode,
)
from queuebench.monitor import probing
from queuebench.monitor.probing import Probe
from queuebench.report import words
from queuebench.settings import load
from tests.test_monitor import until
from tests.test_run import SETTINGS, opened, report, totals

pytestmark = pytest.mark.slow


def test_dead_letters_of_before_are_not_read_and_none_is_missed_when_some_are_sent_again(
    servers: Stack, redis: Redis
) -> None:
    url = servers.environment["REDIS_PUBSUB_URL"]
    settings = load({"REDIS_PUBSUB_URL": url, "REDIS_CELERY_URL": url})
    probe, broker = Probe(settings), Broker(url)

    def die(run: str, *numbers: int) -> None:
        for number in numbers:
            broker.add_dead_letter(dead_letters.DeadLetter("why", b"{}", "message", "", run, number))

    old = dead_letters.DeadLetter("why", b"{}", "message", "", "earlier", 999, at=1.0).encode()
    redis.rpush(dead_letters.KEY, *[old] * 2000)
    probe.begin()
    run = opened()
    redis.config_resetstat()
    die("run", 1, 2)
    die("other", 3)
    first = probe.dead_lettered(run.record)
    assert first.numbers == [(1, 2)]
    read = redis.info("commandstats")["cmdstat_lrange"]["calls"]
    assert read <= 4
    # Two are sent again and two are new: as many as before.
    run.change(dead_letters=first, started_at=time.time())
    for record in broker.dead_letters(2000, 2001):
        broker.forget_dead_letter(record)
    die("run", 7, 8)
    second = probe.dead_lettered(run.record)
    assert second.numbers == [(1, 2), (7, 8)]
    # After a restart the monitor reads them again, and counts none twice.
    again = Probe(settings).dead_lettered(run.record)
    assert (again.count, again.numbers) == (4, second.numbers)


def test_a_run_that_the_broker_cannot_have_noted_is_none(redis_url: str, redis: Redis) -> None:
    broker = Broker(redis_url)
    redis.set(OPEN_RUN, b"\xff\xfe")
    assert broker.noted_run() not in (None, "run")
    redis.delete(OPEN_RUN)
    redis.rpush(OPEN_RUN, "run")
    assert broker.noted_run() is None
    broker.note_run("run")
    assert broker.noted_run() == "run"


def test_what_anybody_put_among_the_dead_letters_leaves_a_record_that_can_be_read(
    redis_url: str, redis: Redis
) -> None:
    probe = Probe(load({"REDIS_PUBSUB_URL": redis_url, "REDIS_CELERY_URL": redis_url}))
    odd: tuple[Any, ...] = ("x", [1], -1, 2**53, 10**15, 1e308, True, None, {}, 7)
    letter = {"reason": "x", "kind": "message", "id": "x", "run": "run", "at": 1e12, "body": "x"}
    redis.rpush(dead_letters.KEY, *[orjson.dumps(letter | {"number": number}) for number in odd], b"", b"[]")
    run = opened()
    run.change(dead_letters=probe.dead_lettered(run.record))
    assert run.record.dead_letters.numbers == [(7, 7)]
    assert decode(encode(run.record), RunRecord, "it").dead_letters == run.record.dead_letters


@pytest.mark.parametrize(("encoding", "proven"), [("identity", None), ("gzip", False)])
def test_a_tally_that_breaks_off_says_nothing_and_one_that_cannot_be_read_is_not_ours(
    encoding: str, proven: bool | None
) -> None:
    class Broken(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Encoding", encoding)
            body = b'{"endpoint":"queuebench",'
            self.send_header("Content-Length", "200" if encoding == "identity" else str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        probe = Probe(load({"PUSH_URL": f"http://127.0.0.1:{server.server_port}/"}))
        assert probe.tally("run", Tally()).proven is proven
        server.shutdown()


class Telling(http.server.BaseHTTPRequestHandler):
    """Says what the test has it say, at once or a byte at a time."""

    said: ClassVar[dict[str, Any]] = {}
    drips = False

    def do_GET(self) -> None:
        data = orjson.dumps(self.said)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(OSError):
            for byte in data:
                self.wfile.write(bytes([byte]))
                time.sleep(0.1 if self.drips else 0)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def telling() -> Iterator[tuple[type[Telling], Probe]]:
    handler = type("Handler", (Telling,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield handler, Probe(load({"PUSH_URL": f"http://127.0.0.1:{server.server_port}/"}))
        server.shutdown()


TOLD = {"endpoint": "queuebench", "run": "run", "distinct": 3, "duplicates": 0, "numbers": [[0, 2]]}


@pytest.mark.parametrize(
    ("changes", "proven"),
    [
        ({}, True),
        ({"run": "another"}, None),
        ({"endpoint": "somebody"}, False),
        ({"distinct": -1}, False),
        ({"distinct": 1.5}, False),
        ({"numbers": [[0, 10**16]]}, False),
        ({"run": None}, False),
    ],
    ids=str,
)
def test_only_the_tally_of_that_run_by_our_endpoint_proves_anything(
    telling: tuple[type[Telling], Probe], changes: dict[str, Any], proven: bool | None
) -> None:
    handler, probe = telling
    handler.said = TOLD | changes
    assert probe.tally("run", Tally(), numbers=True).proven is proven
    assert probe.last_word("run", Tally()).proven is proven


def test_an_endpoint_that_answers_a_byte_now_and_then_holds_no_look_for_ever(
    telling: tuple[type[Telling], Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "TALLY_SECONDS", 0.3)
    handler, probe = telling
    handler.said, handler.drips = TOLD, True
    known = Tally(proven=True, distinct=1)
    assert probe.tally("run", known) == known
    assert probe.last_word("run", known).proven is None
    handler.drips = False
    until(lambda: probe.tally("run", known).distinct == 3)


def test_an_endpoint_that_is_gone_at_the_end_leaves_open_what_arrived_and_loses_nothing() -> None:
    probe = Probe(load({"PUSH_URL": f"http://127.0.0.1:{free_port()}/"}))
    run = opened()
    run.join(JoinRequest(FORMAT, "p", 0, 10, SETTINGS), 1000.0)
    run.leave(LeaveRequest(FORMAT, "p", 0, [(0, 9)]))
    run.report(report("w", "worker", 1001.0, runs=totals({Count.PUSHED: 10})), 1001.0)
    run.change(tally=Tally(proven=True, distinct=6))
    run.close(1020.0, Ending.LOST)
    run.correct(probe.last_word("run", run.record.tally), run.record.dead_letters)
    summary = summarise(run.record)
    assert (summary.counts.lost, summary.proven, summary.verdict) == (0, None, Verdict.INVALID)
    assert words.verdict(summary).endswith("the endpoint did not answer /tally")
