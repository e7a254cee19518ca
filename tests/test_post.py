"""What an endpoint says, and what becomes of the shipments."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from email.utils import formatdate

import pytest

from queuebench.message import Message
from queuebench.pipeline.gate import PERMANENT_IN_A_ROW
from queuebench.pipeline.pauses import LONGEST_RETRY_AFTER_SECONDS, retry_after_seconds
from queuebench.pipeline.post import Course, GivenUp, Pusher, Stopped, Verdict, verdict_of
from tests.held_endpoint import Held
from tests.scripted_endpoint import OK, Scripted, says, status

pytestmark = pytest.mark.slow


def message(number: int) -> Message:
    return Message(f"run-{number}", "+5511999990000", "hello", "run", number)


def push(pusher: Pusher, number: int = 1, waits: Callable[[], object] = lambda: None) -> int:
    """Push, and return how many POSTs it took."""
    course = Course()
    pusher.push(message(number), course, waits)
    return len(course.post_seconds)


def push_all(pusher: Pusher, numbers: Sequence[int], threads: int) -> list[Future[int]]:
    pool = ThreadPoolExecutor(threads)
    return [pool.submit(push, pusher, number) for number in numbers]


def until(done: Callable[[], bool], seconds: float = 30.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < give_up_at, "it did not come to it"
        time.sleep(0.01)


def test_an_answer_that_does_not_come_in_time_uses_up_a_try(held: Held) -> None:
    with pytest.raises(GivenUp, match=r"no answer within 0\.2 s \(try 2 of 2\)"):
        push(Pusher(held.url, 1, 0.0, timeout=0.2, tries=2))
    assert held.all == 2


def test_every_status_has_its_meaning() -> None:
    meant = {
        Verdict.ACCEPTED: [200, 201, 202, 204, 299],
        Verdict.BUSY: [429, 502, 503, 504],
        Verdict.CALLER: [401, 403, 407],
        Verdict.PERMANENT: [
            300,
            301,
            302,
            307,
            308,
            400,
            402,
            404,
            405,
            406,
            409,
            410,
            413,
            422,
            426,
            451,
            499,
        ],
        Verdict.FAILED: [408, 425, 500, 501, 505, 507, 520, 599, 600, 999],
    }
    for verdict, statuses in meant.items():
        assert {verdict_of(code) for code in statuses} == {verdict}


@pytest.mark.parametrize("code", [400, 404, 422, 410])
def test_a_permanent_answer_ends_a_shipment_at_once(code: int) -> None:
    with Scripted(says(status(code))) as server:
        with pytest.raises(GivenUp, match=f"the endpoint answered {code}$"):
            push(Pusher(server.url, 1, 0.0, timeout=20.0, tries=8))
        assert len(server.requests) == 1


def test_a_redirect_is_not_followed_and_says_where_it_leads_without_secrets() -> None:
    location = "Location: https://example.com/push?token=secret\r\n"
    with Scripted(says(status(301, location))) as server:
        with pytest.raises(
            GivenUp, match=r"a redirect to https://example\.com/push\?token=\*\*\*: PUSH_URL"
        ) as failed:
            push(Pusher(server.url, 1, 0.0, timeout=20.0, tries=8))
        assert "secret" not in str(failed.value)


@pytest.mark.parametrize("code", [408, 425, 500])
def test_what_may_go_better_the_next_time_uses_up_tries(code: int) -> None:
    with Scripted(says(status(code))) as server:
        with pytest.raises(GivenUp, match=rf"answered {code} \(try 2 of 2\)"):
            push(Pusher(server.url, 1, 0.0, timeout=20.0, tries=2))
        assert len(server.requests) == 2


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_one_that_is_busy_is_left_alone_for_as_long_as_it_asks_and_uses_up_no_try(code: int) -> None:
    waits = status(code, "Retry-After: 1\r\n")
    with Scripted(says(waits, waits, OK)) as server:
        began = time.monotonic()
        assert push(Pusher(server.url, 1, 0.0, timeout=20.0, tries=1)) == 3
        assert time.monotonic() - began >= 2.0


def test_what_retry_after_asks_for_is_seconds_or_a_date_and_bounded() -> None:
    now = 1_800_000_000.0
    assert retry_after_seconds("3") == 3.0
    assert retry_after_seconds(" 0 ") == 0.0
    assert retry_after_seconds(formatdate(now + 30, usegmt=True), now) == 30.0
    assert retry_after_seconds(formatdate(now - 1e6, usegmt=True), now) == 0.0
    for much in ("99999", "9" * 90, formatdate(now + 1e8, usegmt=True)):
        assert retry_after_seconds(much, now) == LONGEST_RETRY_AFTER_SECONDS
    for nonsense in ("", "soon", "-5", "1.5", "nan", "inf", "1e9", "٣", "Mon, 99 Foo 2026 99:99:99 GMT"):
        assert retry_after_seconds(nonsense, now) is None


def test_while_one_waits_for_its_next_try_its_slot_ships_others_and_a_stop_gives_it_back() -> None:
    def answer(line: socket.socket, number: int) -> None:
        line.sendall(status(503, "Retry-After: 200\r\n") if b"run-7\r\n" in server.requests[number] else OK)

    told: list[int] = []
    with Scripted(answer) as server:
        pusher = Pusher(server.url, 1, 0.0, timeout=20.0, tries=1)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(push, pusher, 7, lambda: told.append(7))
            until(lambda: bool(told))
            assert [push(pusher, number) for number in range(5)] == [1] * 5
            pusher.stopping.set()
            with pytest.raises(Stopped):
                waiting.result(10)


@pytest.mark.parametrize("code", [401, 403, 407])
def test_whoever_is_refused_pauses_says_so_once_and_tries_one_at_a_time_until_one_is_accepted(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    lock, accepts = threading.Lock(), threading.Event()
    now = most = 0

    def answer(line: socket.socket, number: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        line.sendall(OK if accepts.is_set() else status(code))

    with caplog.at_level(logging.WARNING), Scripted(answer) as server:
        pusher = Pusher(server.url, 20, 0.0, timeout=20.0, tries=1)
        shipped = push_all(pusher, range(40), 40)
        until(lambda: bool(caplog.records) and now == 0)
        most, before = 0, len(server.requests)
        until(lambda: len(server.requests) >= before + 3)
        assert most == 1
        assert not any(future.done() for future in shipped)
        accepts.set()
        assert len([future.result(30) for future in shipped]) == 40
        said = [record.getMessage() for record in caplog.records]
        assert sum(f"answered {code}" in line for line in said) == 1
        assert sum("accepts shipments again" in line for line in said) == 1


def test_one_that_is_refused_while_others_are_accepted_stops_nobody() -> None:
    def answer(line: socket.socket, number: int) -> None:
        line.sendall(status(403) if b"run-7\r\n" in server.requests[number] else OK)

    with Scripted(answer) as server:
        pusher = Pusher(server.url, 4, 0.0, timeout=20.0, tries=1)
        refused = push_all(pusher, [7], 1)[0]
        until(lambda: len(server.requests) >= 1)
        assert push(pusher, 1) == 1
        for number in range(10, 300):
            assert push(pusher, number) == 1
        assert not refused.done()
        pusher.stopping.set()
        with pytest.raises(Stopped):
            refused.result(10)


def test_after_a_hundred_permanent_answers_in_a_row_it_goes_on_one_at_a_time_until_a_success() -> None:
    accepts = threading.Event()
    with Scripted(lambda line, _: line.sendall(OK if accepts.is_set() else status(422))) as server:
        pusher = Pusher(server.url, 30, 0.0, timeout=20.0, tries=8)
        shipments = push_all(pusher, range(400), 100)
        buried = lambda: sum(future.done() for future in shipments)  # noqa: E731
        until(lambda: buried() >= PERMANENT_IN_A_ROW)
        time.sleep(1.0)
        assert PERMANENT_IN_A_ROW <= buried() <= PERMANENT_IN_A_ROW + 6
        accepts.set()
        until(lambda: buried() == 400)
        given_up = [future for future in shipments if future.exception() is not None]
        assert len(given_up) <= PERMANENT_IN_A_ROW + 8


def test_a_success_in_between_lets_permanent_answers_go_on_side_by_side() -> None:
    with Scripted(lambda line, number: line.sendall(status(422 if number % 50 else 200))) as server:
        pusher = Pusher(server.url, 1, 0.0, timeout=20.0, tries=8)
        for future in push_all(pusher, range(300), 1):
            future.exception(30)
        assert len(server.requests) == 300


@pytest.mark.parametrize("code", [401, 422, 503])
def test_a_stop_ends_whatever_waits(code: int) -> None:
    with Scripted(says(status(code))) as server:
        pusher = Pusher(server.url, 4, 0.0, timeout=20.0, tries=8)
        shipments = push_all(pusher, range(150), 50)
        until(lambda: len(server.requests) >= 4)
        time.sleep(0.3)
        began = time.monotonic()
        pusher.stopping.set()
        for future in shipments:
            assert isinstance(future.exception(10), (Stopped, GivenUp))
        assert time.monotonic() - began < 5
