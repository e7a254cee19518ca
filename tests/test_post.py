"""The POST, against a real server."""

from __future__ import annotations

import threading

import pytest

from queuebench.message import Message
from queuebench.pipeline import post
from queuebench.pipeline.post import GivenUp, Pusher
from tests.held_endpoint import Held

MESSAGE = Message("run-1", "+5511999990000", "hello", "run", 1)


def test_an_answer_may_take_longer_than_a_connection(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post, "CONNECT_TIMEOUT_SECONDS", 0.2)
    pusher = Pusher(held.url, 1, 0.0, timeout=30.0, tries=1)
    threading.Timer(1.0, held.may_answer.set).start()
    assert pusher.push(MESSAGE) == 1
    assert held.all == 1


def test_an_answer_that_does_not_come_in_time_uses_up_a_try(held: Held) -> None:
    with pytest.raises(GivenUp, match=r"ReadTimeoutError.*try 2 of 2"):
        Pusher(held.url, 1, 0.0, timeout=0.2, tries=2).push(MESSAGE)
    assert held.all == 2
