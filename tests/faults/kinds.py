"""What can go wrong: each kind does one thing to a scene and says how many duplicates it may cause.

A duplicate is a shipment that was under way in what failed, so the bound is what that held: measured
where it can be asked right after a kill, else the most that it can hold.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import boto3
import requests
from redis import Redis

from queuebench.bench.stack import Service
from tests.faults import gateway
from tests.faults.gateway import Gateway, Spoil
from tests.faults.scene import LANES, SLOTS, GatewayStack, LinedStack, Scene
from tests.scripted_endpoint import status

BOTH = ("REDIS", "SQS")
RETRY_AFTER = status(503, "Retry-After: 2\r\n")


@dataclass(frozen=True)
class Layout:
    """How the stack is built that a kind needs."""

    subscribers: int = 1
    workers: int = 1
    appendfsync: str = "everysec"
    lined: bool = False
    gateway: bool = False
    app: str = "queuebench.pipeline.app"
    visibility_seconds: int = 0  # of SQS; 0: its default
    settings: Mapping[str, str] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(repr(self))


ONE, MANY = Layout(), Layout(subscribers=3, workers=2)
ALWAYS, LINED = Layout(appendfsync="always"), Layout(lined=True)
POISONED = Layout(app="tests.faults.poisoned")
SEVERAL = Layout(settings={"SHIPMENTS_PER_TASK": "10"})
GATEWAY = Layout(gateway=True, settings={"PUSH_TIMEOUT": "3"})
HASTY = Layout(visibility_seconds=4)


@dataclass(frozen=True)
class Kind:
    """One row of the table.

    Args:
        name: what is done.
        act: does it to a scene whose messages are not published yet, and returns the bound on duplicates.
        queues: where it makes sense.
        layout: of the stack.
        repeats: how many faults one run of it is.
        rare: it takes minutes, so it is done once for each queue.
        loses: it may lose messages, and says how many.
        dead_letters: how many it makes.
        refuses: shipments become dead letters, as many as may be.
    """

    name: str
    act: Callable[[Scene], int]
    queues: Sequence[str] = BOTH
    layout: Layout = ONE
    repeats: int = 1
    rare: bool = False
    loses: bool = False
    dead_letters: int = 0
    refuses: bool = False


def again(service: Service, scene: Scene, lowest: float = 0.0, highest: float = 2.0) -> None:
    """Start a service again after a while, as whoever watches over it does."""
    scene.sleep(lowest, highest)
    service.start()
    scene.say(f"{service.name} runs again")


def pick(scene: Scene, role: str) -> Service:
    names = [name for name in scene.stack.services if name.split("-")[0] == role]
    return scene.stack.services[scene.chance.choice(names)]


def server(scene: Scene) -> str:
    return "redis" if scene.queue == "REDIS" else "sqs"


# kill -9


def kill_publisher(scene: Scene) -> int:
    scene.publish(paced=scene.chance.random() < 0.5)
    publisher = scene.publishers[0]
    if scene.paced:
        scene.random_moment()
    else:
        scene.until(lambda: scene.held_by_subscribers() + scene.arrived() > 0, "something is published", 60.0)
    publisher.kill()
    scene.say("killed the publisher")
    scene.publish()
    return 0


def kill_subscriber(scene: Scene) -> int:
    begin(scene)
    victim = pick(scene, "subscriber")
    scene.catch_subscriber()
    victim.kill()
    held = scene.held_by_subscribers()
    scene.say(f"killed {victim.name}; {held} in flight")
    again(victim, scene)
    return held


def kill_worker(scene: Scene) -> int:
    begin(scene)
    victim = pick(scene, "worker")
    victim.kill()
    held = scene.held_by_workers()
    scene.say(f"killed {victim.name}; {held} in flight")
    again(victim, scene)
    return held


def kill_endpoint(scene: Scene) -> int:
    begin(scene)
    victim = scene.stack.services["endpoint"]
    victim.kill()
    held = scene.held_by_workers()
    scene.say(f"killed the endpoint; {held} shipments under way")
    again(victim, scene)
    return held


def kill_monitor(scene: Scene) -> int:
    begin(scene)
    victim = scene.stack.services["monitor"]
    victim.kill()
    scene.say("killed the monitor")
    again(victim, scene)
    return 0


def kill_broker(scene: Scene) -> int:
    begin(scene)
    victim = scene.stack.services["broker"]
    victim.kill()
    scene.say("killed the broker")
    again(victim, scene)
    # What ran, and what had run and was not acknowledged yet.
    return 2 * SLOTS * scene.count("worker")


def kill_queue(scene: Scene) -> int:
    begin(scene)
    victim = scene.stack.services[server(scene)]
    victim.kill()
    scene.say(f"killed {victim.name}")
    again(victim, scene)
    # What subscribers held; and on standard SQS a send that is repeated because its answer is lost.
    return LANES[scene.queue] * scene.count("subscriber") + (80 if scene.queue == "SQS" else 0)


def kill_again_and_again(role: str) -> Callable[[Scene], int]:
    def act(scene: Scene) -> int:
        scene.messages = 6000
        scene.publish()
        scene.random_moment()
        bound = 0
        for number in range(5):
            if number:
                scene.sleep(1.0, 4.0)
            victim = pick(scene, role)
            if role == "subscriber":
                scene.catch_subscriber()
            victim.kill()
            held = scene.held_by_subscribers() if role == "subscriber" else scene.held_by_workers()
            bound += held
            scene.say(f"killed {victim.name}; {held} in flight")
            again(victim, scene, 0.0, 1.0)
        return bound

    return act


# SIGTERM, SIGINT


def stop(role: str, number: signal.Signals) -> Callable[[Scene], int]:
    def act(scene: Scene) -> int:
        if role == "publisher":
            victim = scene.publish()
            scene.random_moment()
        else:
            begin(scene)
            victim = scene.stack.services[server(scene)] if role == "queue" else pick(scene, role)
        victim.signal(number)
        scene.say(f"{number.name} to {victim.name}")
        scene.until_ended(victim)
        scene.say(f"{victim.name} ended with {victim.exit_code()}")
        if role == "publisher":
            scene.publish()
            return 0
        again(victim, scene)
        if role == "broker":
            return 2 * SLOTS * scene.count("worker")
        if role == "queue":
            return LANES[scene.queue] * scene.count("subscriber") + (80 if scene.queue == "SQS" else 0)
        return 0

    return act


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
        scene.say(f"the endpoint is back; the broker held {scene.celery_peak} at most")
        most = 800 + LANES[scene.queue]
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
        scene.say(f"{spoiler.spoilt} POSTs were answered {answer[9:12].decode()}")
        assert spoiler.spoilt, "none was answered so"
        return 0

    return act


def refuse_dead_letters(scene: Scene) -> int:
    """Give up some shipments while the broker can't keep dead letters."""
    spoiler = gateway_of(scene)
    with Redis(port=scene.stack.ports["broker"]) as client:
        client.sadd("dead_letters", "in the way")
        spoiler.refuse, spoiler.every = status(422), 50
        begin(scene)
        scene.until(lambda: spoiler.spoilt >= 5, "some are refused", 120.0)
        scene.sleep(5.0, 10.0)
        scene.say(f"{spoiler.spoilt} shipments were given up, and none can be kept")
        client.delete("dead_letters")
    scene.finish()
    spoiler.every = 0
    assert scene.dead_letters(), "none was kept"
    return 0


def gateway_of(scene: Scene) -> Gateway:
    assert isinstance(scene.stack, GatewayStack)
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
    scene.say("the broker goes on")
    return LANES["SQS"]


# Redis


def fill_queue(scene: Scene) -> int:
    """Publish more than the queue's Redis has room for: some batches, until subscribers make room."""
    scene.messages = 15_000
    with Redis(port=scene.stack.ports["redis"]) as client:
        room = scene.chance.randrange(1_000_000, 1_200_000)
        limit_memory(scene, client, room)
        scene.publish(paced=False)
        finish_in_limited_memory(scene, client)
    return 0


def fill_broker(scene: Scene) -> int:
    """Let the broker have about as much memory as it uses while all is busy."""
    scene.messages = 6000
    scene.publish(paced=False)
    scene.until(lambda: scene.arrived() > 0, "something arrives", 120.0)
    with Redis(port=scene.stack.ports["broker"]) as client:
        limit_memory(scene, client, scene.chance.randrange(-300_000, -100_000))
        finish_in_limited_memory(scene, client)
    return 0


def limit_memory(scene: Scene, client: Redis, room_bytes: int) -> None:
    client.config_resetstat()
    client.config_set("maxmemory-policy", "noeviction")
    most = client.info("memory")["used_memory"] + room_bytes
    client.config_set("maxmemory", most)
    scene.say(f"a maxmemory of {most:,} bytes, {room_bytes:+,} of what is used")


def finish_in_limited_memory(scene: Scene, client: Redis) -> None:
    try:
        scene.finish()
        refused = int((client.info("errorstats").get("errorstat_OOM") or {}).get("count", 0))
    finally:
        client.config_set("maxmemory", 0)
    scene.say(f"it refused {refused} commands")
    assert refused, "it was never full"


def cut(role: str, name: str) -> Callable[[Scene], int]:
    def act(scene: Scene) -> int:
        assert isinstance(scene.stack, LinedStack)
        line = scene.stack.lines[role, name]
        if role == "publisher":
            scene.publish()
            scene.until(lambda: scene.arrived() > 0, "something arrives", 120.0)
        else:
            begin(scene)
        cuts = scene.chance.randrange(1, 4)
        for _ in range(cuts):
            before = line.cuts
            line.cut_at = b""
            scene.until(
                lambda before=before: line.cuts > before or all_published(scene, role),  # type: ignore[misc]
                f"a reply to the {role} is cut",
                60.0,
            )
            line.cut_at = None
        scene.say(f"cut {line.cuts} replies of {name} to the {role}")
        assert line.cuts, "no reply was cut"
        # A claim whose reply is lost: what ran beside it is given back with it when the lease has run out.
        return 2 * SLOTS if role == "worker" else 0

    return act


def all_published(scene: Scene, role: str) -> bool:
    return role == "publisher" and scene.arrived() >= scene.messages


# Tasks that kill, processes that sleep


def poison(scene: Scene) -> int:
    scene.messages = 800
    worker = scene.stack.services["worker-1"]
    bound = 0

    def restart_the_dead() -> None:
        nonlocal bound
        if worker.exit_code() is not None:
            held = scene.held_by_workers()
            bound += held
            scene.say(f"the worker died; {held} in flight")
            worker.start()

    scene.watch = restart_the_dead
    begin(scene)
    body = '{"p":"+5511999990000","m":"poison","id":"poison"}'
    if scene.queue == "REDIS":
        with Redis(port=scene.stack.ports["redis"]) as client:
            client.lpush("phone_numbers", body)
    else:
        sqs = sqs_client(scene.stack.environment["AWS_ENDPOINT_URL_SQS"])
        sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="phone_numbers")["QueueUrl"], MessageBody=body)
    scene.say("sent a message that kills its worker")
    scene.until(lambda: len(scene.dead_letters()) > 0, "it is a dead letter", 400.0)
    (letter,) = scene.dead_letters()
    scene.say(f"dead letter {letter.id}: {letter.reason}")
    assert letter.id == "poison", letter
    scene.finish()
    with Redis(port=scene.stack.ports["broker"]) as client:
        client.delete("dead_letters")
    return bound


def freeze(role: str) -> Callable[[Scene], int]:
    def act(scene: Scene) -> int:
        scene.messages = 5000
        begin(scene)
        victim = pick(scene, role)
        if role == "subscriber":
            scene.catch_subscriber()
        victim.signal(signal.SIGSTOP)
        held = scene.held_by_subscribers() if role == "subscriber" else scene.held_by_workers()
        scene.say(f"stopped {victim.name} (SIGSTOP); {held} in flight")
        scene.sleep(14.0, 18.0)
        victim.signal(signal.SIGCONT)
        scene.say(f"{victim.name} goes on")
        return held

    return act


def stall(role: str) -> Callable[[Scene], int]:
    """Stop a process for longer than a connection may take, but not than its lease."""

    def act(scene: Scene) -> int:
        begin(scene)
        victim = scene.stack.services[server(scene)] if role == "queue" else pick(scene, role)
        victim.signal(signal.SIGSTOP)
        scene.say(f"stopped {victim.name} (SIGSTOP)")
        scene.sleep(6.0, 8.0)
        victim.signal(signal.SIGCONT)
        scene.say(f"{victim.name} goes on")
        return 0

    return act


def begin(scene: Scene) -> None:
    scene.publish(paced=scene.chance.random() < 0.5)
    scene.random_moment()


def sqs_client(url: str) -> Any:
    return boto3.client(
        "sqs", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
    )


KINDS = [
    Kind("kill -9 of the publisher", kill_publisher),
    Kind("kill -9 of the only subscriber", kill_subscriber),
    Kind("kill -9 of one of three subscribers", kill_subscriber, layout=MANY),
    Kind("kill -9 of the only worker", kill_worker),
    Kind("kill -9 of one of two workers", kill_worker, layout=MANY),
    Kind("kill -9 of the only worker, ten shipments a task", kill_worker, layout=SEVERAL),
    Kind("kill -9 of the endpoint", kill_endpoint),
    Kind("kill -9 of the monitor", kill_monitor),
    Kind("kill -9 of the broker's Redis, appendfsync always", kill_broker, layout=ALWAYS),
    Kind("kill -9 of the broker's Redis, appendfsync everysec", kill_broker, loses=True),
    Kind("kill -9 of the queue's Redis, appendfsync always", kill_queue, ("REDIS",), ALWAYS),
    Kind("kill -9 of the queue's Redis, appendfsync everysec", kill_queue, ("REDIS",), loses=True),
    Kind("kill -9 of the local SQS", kill_queue, ("SQS",)),
    Kind("kill -9 of the subscriber every few seconds", kill_again_and_again("subscriber"), repeats=5),
    Kind("kill -9 of the worker every few seconds", kill_again_and_again("worker"), repeats=5),
    *(
        Kind(
            f"{number.name} of {'the local SQS or the queue’s Redis' if role == 'queue' else f'the {role}'}",
            stop(role, number),
        )
        for role in ("publisher", "subscriber", "worker", "endpoint", "monitor", "broker", "queue")
        for number in (signal.SIGTERM, signal.SIGINT)
    ),
    Kind("the endpoint fails 5 % of the POSTs", with_endpoint({"ENDPOINT_FAIL_SHARE": "0.05"}, 3000)),
    Kind(
        "the endpoint answers 5 % of the POSTs after 30 s",
        with_endpoint({"ENDPOINT_SLOW_SHARE": "0.05", "ENDPOINT_SLOW_SECONDS": "30"}, 2000),
    ),
    Kind("the endpoint refuses connections for 20 s", refuse(20.0)),
    Kind("the endpoint refuses connections for 3 minutes", refuse(180.0), rare=True),
    Kind("SIGTERM of the worker while the endpoint refuses connections", refuse(20.0, True)),
    Kind(
        "SIGTERM of the worker while the endpoint refuses connections, ten shipments a task",
        refuse(20.0, True),
        layout=SEVERAL,
    ),
    Kind("interim answers before 5 % of the answers", spoil(gateway.interim, 20), layout=GATEWAY),
    Kind("an answer too many after 5 %", spoil(gateway.one_too_many, 20), layout=GATEWAY),
    Kind("headers that drip without end in 2 %", spoil(gateway.drip_headers, 50, True), layout=GATEWAY),
    Kind("bodies that drip without end in 5 %", spoil(gateway.drip_body, 20), layout=GATEWAY),
    Kind("bodies without end in 2 %", spoil(gateway.endless_body, 50), layout=GATEWAY),
    Kind("503 with Retry-After for 6 s", answer_in_its_place(RETRY_AFTER, 6.0), layout=GATEWAY),
    Kind(
        "503 with Retry-After to a tenth for 6 s", answer_in_its_place(RETRY_AFTER, 6.0, 10), layout=GATEWAY
    ),
    Kind("502 for 6 s", answer_in_its_place(status(502), 6.0), layout=GATEWAY),
    Kind("401 for 6 s", answer_in_its_place(status(401), 6.0), layout=GATEWAY),
    Kind("dead letters that can't be kept for 5 to 10 s", refuse_dead_letters, layout=GATEWAY, refuses=True),
    Kind("the local SQS throttles 30 % of the calls", with_sqs("throttling", 0.3, 0.0), ("SQS",)),
    Kind("the local SQS fails 20 % of the entries", with_sqs("failed_entries", 0.2, 0.0), ("SQS",)),
    Kind("the local SQS answers 500 to 5 % of the calls", with_sqs("errors", 0.05, 0.1), ("SQS",)),
    Kind("the local SQS delivers 10 % twice", with_sqs("duplicate_deliveries", 0.1, 0.2), ("SQS",)),
    Kind("the visibility timeout runs out during a hand-over", outlast_visibility, ("SQS",), HASTY),
    Kind("the queue's Redis at its maxmemory", fill_queue, ("REDIS",)),
    Kind("the broker's Redis at its maxmemory", fill_broker),
    Kind("replies of Redis to the publisher cut", cut("publisher", "redis"), ("REDIS",), LINED),
    Kind("replies of the queue's Redis to the subscriber cut", cut("subscriber", "redis"), ("REDIS",), LINED),
    Kind("replies of the broker's Redis to the subscriber cut", cut("subscriber", "broker"), layout=LINED),
    Kind("replies of the broker's Redis to the worker cut", cut("worker", "broker"), layout=LINED),
    Kind("a task that kills its worker", poison, layout=POISONED, rare=True, dead_letters=1),
    *(
        Kind(
            f"{'the local SQS or the queue’s Redis' if role == 'queue' else f'the {role}'} "
            "stopped (SIGSTOP) for 6 to 8 s",
            stall(role),
        )
        for role in ("subscriber", "worker", "endpoint", "monitor", "broker", "queue")
    ),
    Kind("the subscriber stopped (SIGSTOP) for 14 to 18 s", freeze("subscriber")),
    Kind("the worker stopped (SIGSTOP) for 14 to 18 s", freeze("worker")),
    Kind("one of three subscribers stopped (SIGSTOP) for 14 to 18 s", freeze("subscriber"), layout=MANY),
    Kind("one of two workers stopped (SIGSTOP) for 14 to 18 s", freeze("worker"), layout=MANY),
]
