"""What a publisher puts into a real Redis, and what it says of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis import Redis

from queuebench.load.bodies import Bodies, Lines, Texts
from queuebench.load.curve import steady
from queuebench.load.pacing import Flood as AtOnce
from queuebench.load.pacing import Pacing
from queuebench.measuring.records import Count, Stage
from queuebench.measuring.telemetry import Telemetry
from queuebench.pipeline.flood import Flood, Outcome
from queuebench.pipeline.publisher import Publication
from queuebench.plumbing.outage import Outage
from queuebench.queues.redis_list import RedisList
from queuebench.settings import load

KEY, RUN = "flooded", "20261125-090000-redis-0001"


class Sent:
    """One flood, with all that came of it."""

    def __init__(
        self,
        redis: Redis,
        url: str,
        pacing: Pacing,
        messages: int = 10**9,
        bodies: Bodies | None = None,
        **more: Any,
    ) -> None:
        queue, telemetry = RedisList(redis_pubsub_url=url, channel_name=KEY), Telemetry("publisher")
        source, outage = bodies or Texts(), Outage("publisher", "the queue")
        self.began_at = time.time()
        flood = Flood(queue, RUN, 7, messages, pacing.schedule(), source, telemetry, outage, **more)
        self.outcome: Outcome = flood.run(lambda _: None)
        self.took = time.time() - self.began_at
        queue.close()
        found: Any = redis.lrange(KEY, 0, -1)
        objects = [body for body in found if body.startswith(b"{")]
        self.bodies = sorted(map(orjson.loads, objects), key=lambda body: int(body["i"]))
        self.others = [body for body in found if not body.startswith(b"{")]
        self.telemetry = telemetry
        self.counts = telemetry._runs[RUN].counts

    def timed(self, stage: Stage) -> int:
        return self.telemetry.latency(RUN, stage).count


def test_each_message_carries_its_own_intended_time(redis: Redis, redis_url: str) -> None:
    sent = Sent(redis, redis_url, Pacing(steady(2000, 0.5), seconds=0.5))
    assert [body["i"] for body in sent.bodies] == list(range(7, 7 + sent.outcome.sent))
    start = sent.bodies[0]["t"]
    assert sent.began_at <= start <= sent.began_at + 30
    for number, body in enumerate(sent.bodies):
        assert body["t"] - start == pytest.approx(number / 2000, abs=2e-6)
    # All but what a busy machine had no time for.
    assert sent.outcome.sent + sent.outcome.behind == 1000
    assert sent.counts[Count.INTENDED] == 1000
    assert sent.counts[Count.PUBLISHED] == sent.outcome.accepted == sent.outcome.sent
    assert sent.timed(Stage.PUBLISH) == sent.timed(Stage.PUBLISH_LATENESS) == sent.outcome.sent
    assert sent.telemetry.accepted_so_far(RUN) == [(7, 6 + sent.outcome.sent)]
    assert sent.took >= 0.49


def test_what_warms_up_carries_no_time_and_is_in_no_latency(redis: Redis, redis_url: str) -> None:
    sent = Sent(redis, redis_url, Pacing(steady(1000)), messages=400, warm_up=0.1)
    cold = [body for body in sent.bodies if "t" not in body]
    assert cold == sent.bodies[: len(cold)]
    assert all(body["r"] == RUN for body in sent.bodies)
    assert len(cold) == 100
    assert sent.counts[Count.UNTIMED] == 100
    assert sent.timed(Stage.PUBLISH) == sent.timed(Stage.PUBLISH_LATENESS) == 300


def test_a_flood_warms_up_too_and_ends_with_its_time(redis: Redis, redis_url: str) -> None:
    sent = Sent(redis, redis_url, Pacing(seconds=0.6), warm_up=0.3, one_by_one=True)
    cold = sum("t" not in body for body in sent.bodies)
    assert 0 < cold == sent.counts[Count.UNTIMED]
    assert sent.outcome.failure == ""
    assert sent.outcome.accepted == sent.outcome.sent == len(sent.bodies)
    assert sent.timed(Stage.PUBLISH) == len(sent.bodies) - cold
    assert sent.took >= 0.6


def test_whichever_comes_first_ends_it(redis: Redis, redis_url: str) -> None:
    sent = Sent(redis, redis_url, Pacing(steady(100, 60.0), seconds=60.0), messages=5)
    assert (sent.outcome, len(sent.bodies)) == (Outcome(5, 5, 0, sent.outcome.behind, ""), 5)
    assert sent.took < 30


def test_a_file_s_bodies_are_sent_in_turn_and_what_is_no_object_as_it_is(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "messages.jsonl"
    path.write_bytes(b'{"p":"1","m":"a","i":77}\nhello\n{"x":[]}\n')
    sent = Sent(redis, redis_url, Pacing(), messages=2500, bodies=Lines(str(path), lambda _: ""))
    assert (sent.outcome.accepted, sent.outcome.sent, sent.outcome.unnumbered) == (1667, 1667, 833)
    assert [body["i"] for body in sent.bodies] == list(range(7, 7 + 1667))
    assert [sorted(body) for body in sent.bodies[:3]] == [list("imprt"), list("irtx"), list("imprt")]
    assert sent.others == [b"hello"] * 833
    assert (sent.counts[Count.UNNUMBERED], sent.counts[Count.PUBLISHED]) == (833, 1667)
    assert sent.telemetry.accepted_so_far(RUN) == [(7, 6 + 1667)]


def test_large_messages_take_more_calls(redis: Redis, redis_url: str) -> None:
    sent = Sent(redis, redis_url, Pacing(), messages=50, bodies=Texts(300_000))
    assert [body["i"] for body in sent.bodies] == list(range(7, 57))
    assert {len(body["m"]) for body in sent.bodies} == {300_000}


def test_messages_of_a_flood_all_come(redis: Redis, redis_url: str) -> None:
    sent = Sent(redis, redis_url, Pacing(), messages=2500)
    assert [body["i"] for body in sent.bodies] == list(range(7, 2507))
    assert isinstance(Pacing().schedule(), AtOnce)
    assert all(sent.began_at - 1 <= body["t"] <= sent.began_at + sent.took for body in sent.bodies)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "10,000 messages through AWS SQS are about 3,000 requests, $0.00"),
        # A batch of ten texts of 20,000 bytes is four chunks of 64 KB to send, and four to receive.
        ({"MESSAGE_BYTES": "20000"}, "10,000 messages through AWS SQS are about 9,000 requests"),
        ({"MESSAGE_BYTES": "200000"}, "10,000 messages through AWS SQS are about 66,000 requests, $0.03"),
        ({"RATE": "100", "DURATION": "60"}, "6,000 messages through AWS SQS are up to 18,000 requests"),
        ({"DURATION": "5"}, "each 1,000,000 messages through AWS SQS are about 300,000 requests, $0.12"),
    ],
    ids=str,
)
def test_what_a_load_costs_on_aws_is_said_before_it_starts(
    capsys: pytest.CaptureFixture[str], settings: dict[str, str], said: str
) -> None:
    Publication(load({"QUEUE": "SQS", **settings}), wait=False)._say_what_it_costs()
    assert f"publisher: {said}" in capsys.readouterr().out
