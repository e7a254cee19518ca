"""What an endpoint and the local SQS do to those who ask them, and dead letters that nobody takes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import requests

from tests.faults.gateway import Gateway, Spoil
from tests.faults.kind import HASTY, again, begin, pick
from tests.faults.scene import LANES, Scene
from tests.scripted_endpoint import status

RETRY_AFTER = status(503, "Retry-After: 2\r\n")

# The endpoint


def with_endpoint(settings: Mapping[str, str], messages: int) -> Callable[[Scene], int]:
    def act(scene: Scene) -> int:
        scene.messages = messages
        endpoint = scene.stack.services["endpoint"]
        before = endpoint.environment
        endpoint.stop()
        endpoint.environment = before | dict(settings)
        endpoint.start()
        scene.say(f"the endpoint runs with {dict(settings)}")
        scene.publish()
        scene.finish()
        endpoint.stop()
        endpoint.environment = before
        endpoint.start()
        return 0

    return act


def refuse(seconds: float, stop_a_worker: bool = False) -> Callable[[Scene], int]:
    def act(scene: Scene) -> int:
        begin(scene)
        endpoint = scene.stack.services["endpoint"]
        endpoint.stop()
        scene.say("the endpoint refuses connections")
        end = time.monotonic() + seconds
        if stop_a_worker:
            scene.sleep(2.0, seconds / 2)
            worker = pick(scene, "worker")
            worker.signal(signal.SIGTERM)
            scene.until_ended(worker)
            scene.say(f"{worker.name} was told to stop and ended with {worker.exit_code()}")
            again(worker, scene)
        while time.monotonic() < end:
            scene.sample_celery()
            time.sleep(0.2)
        endpoint.start()
        scene.over(f"the endpoint is back; the broker held {scene.celery_peak} at most")
        most = scene.most_in_broker()
        if scene.celery_peak > most:
            raise AssertionError(f"the broker held {scene.celery_peak} tasks, more than {most}")
        return 0

    return act


def spoil(how: Spoil, one_in: int, twice: bool = False) -> Callable[[Scene], int]:
    """Spoil the answers to some POSTs; with `twice`, they count as failed and are made again."""

    def act(scene: Scene) -> int:
        spoiler = gateway_of(scene)
        spoiler.every, spoiler.spoil = one_in, how
        begin(scene)
        scene.until(lambda: spoiler.spoilt >= 10, "ten answers are spoilt", 120.0)
        scene.finish()
        spoiler.every = 0
        scene.say(f"{spoiler.spoilt} answers were spoilt")
        return spoiler.spoilt if twice else 0

    return act


def answer_in_its_place(answer: bytes, seconds: float, one_in: int = 1) -> Callable[[Scene], int]:
    """Let the gateway answer for some seconds."""

    def act(scene: Scene) -> int:
        spoiler = gateway_of(scene)
        begin(scene)
        spoiler.refuse, spoiler.every = answer, one_in
        scene.sleep(seconds, seconds)
        spoiler.every = 0
        scene.over(f"{spoiler.spoilt} POSTs were answered {answer[9:12].decode()}")
        assert spoiler.spoilt, "none was answered so"
        return 0

    return act


def keep_none(refusing: Callable[[Scene], AbstractContextManager[None]]) -> Callable[[Scene], int]:
    """Give up some shipments while the broker can't keep dead letters."""

    def act(scene: Scene) -> int:
        spoiler = gateway_of(scene)
        with refusing(scene):
            spoiler.refuse, spoiler.every = status(422), 50
            begin(scene)
            scene.until(lambda: spoiler.spoilt >= 5, "some are refused", 120.0)
            scene.sleep(5.0, 10.0)
            scene.say(f"{spoiler.spoilt} shipments were given up, and none can be kept")
        scene.over("dead letters can be kept")
        scene.finish()
        spoiler.every = 0
        return 0

    return act


@contextmanager
def other_type(scene: Scene) -> Iterator[None]:
    """Have something else under the name of the dead letters."""
    with scene.stack.client_of("broker") as client:
        client.sadd("dead_letters", "in the way")
        yield
        client.delete("dead_letters")


@contextmanager
def no_right(scene: Scene) -> Iterator[None]:
    """Let nobody use the dead letters' key, or any other whose name begins like it."""
    with scene.stack.client_of("broker") as client:
        client.execute_command("ACL", "SETUSER", "default", "resetkeys", "~[^d]*")
        yield
        client.execute_command("ACL", "SETUSER", "default", "allkeys")


def gateway_of(scene: Scene) -> Gateway:
    assert scene.stack.gateway is not None
    scene.stack.gateway.reset()
    return scene.stack.gateway


# SQS


def with_sqs(fault: str, share: float, duplicates: float) -> Callable[[Scene], int]:
    """Let the local SQS misbehave from a random moment on.

    `duplicates` is the share of the messages that may come twice.
    """

    def act(scene: Scene) -> int:
        url = f"http://127.0.0.1:{scene.stack.ports['sqs']}/faults"
        begin(scene)
        requests.put(url, json={fault: share}, timeout=5).raise_for_status()
        scene.say(f"local SQS: {fault} {share:g}")
        try:
            scene.finish()
        finally:
            requests.put(url, json={fault: 0.0}, timeout=5).raise_for_status()
        return round(scene.messages * duplicates)

    return act


def away(fault: str, seconds: float) -> Callable[[Scene], int]:
    """Let the local SQS answer every call so for some seconds."""

    def act(scene: Scene) -> int:
        url = f"http://127.0.0.1:{scene.stack.ports['sqs']}/faults"
        begin(scene)
        requests.put(url, json={fault: 1.0}, timeout=5).raise_for_status()
        scene.say(f"local SQS: {fault} of all")
        try:
            scene.sleep(seconds, seconds)
        finally:
            requests.put(url, json={fault: 0.0}, timeout=5).raise_for_status()
        scene.over("the local SQS answers")
        # What a call did whose answer was an error may be done again.
        return LANES["SQS"] * scene.count("subscriber") + 80

    return act


def outlast_visibility(scene: Scene) -> int:
    begin(scene)
    broker = scene.stack.services["broker"]
    scene.catch_subscriber()
    broker.signal(signal.SIGSTOP)
    held = scene.held_by_subscribers()
    scene.say(f"stopped the broker, so that hand-overs stand still; {held} in flight")
    assert held, "nothing is being handed over"
    scene.sleep(HASTY.visibility_seconds + 1, HASTY.visibility_seconds + 4)
    broker.signal(signal.SIGCONT)
    scene.over("the broker goes on")
    return LANES["SQS"]
