"""What is done to processes: they are killed, stopped, and put to sleep; and tasks that kill."""

from __future__ import annotations

import signal
from collections.abc import Callable

from tests.faults.kind import again, begin, pick
from tests.faults.scene import LANES, Scene
from tests.faults.stacks import SLOTS

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
    scene.over("another publisher runs")
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
    victim = scene.stack.services[scene.queue_server]
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
            victim = scene.stack.services[scene.queue_server] if role == "queue" else pick(scene, role)
        victim.signal(number)
        scene.say(f"{number.name} to {victim.name}")
        scene.until_ended(victim)
        scene.say(f"{victim.name} ended with {victim.exit_code()}")
        if role == "publisher":
            scene.publish()
            scene.over("another publisher runs")
            return 0
        again(victim, scene)
        if role == "broker":
            return 2 * SLOTS * scene.count("worker")
        if role == "queue":
            return LANES[scene.queue] * scene.count("subscriber") + (80 if scene.queue == "SQS" else 0)
        return 0

    return act


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
    scene.poison()
    scene.over("sent a message that kills its worker")
    scene.until(lambda: "poison-0" in scene.dead_ids(), "it is a dead letter", 400.0)
    scene.finish()
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
        scene.over(f"{victim.name} goes on")
        return held

    return act


def stall(role: str) -> Callable[[Scene], int]:
    """Stop a process for longer than a connection may take, but not than its lease."""

    def act(scene: Scene) -> int:
        begin(scene)
        victim = scene.stack.services[scene.queue_server] if role == "queue" else pick(scene, role)
        victim.signal(signal.SIGSTOP)
        scene.say(f"stopped {victim.name} (SIGSTOP)")
        scene.sleep(6.0, 8.0)
        victim.signal(signal.SIGCONT)
        scene.over(f"{victim.name} goes on")
        return 0

    return act


def kill_while_tasks_wait(scene: Scene) -> int:
    """Kill a worker, twice, that holds tasks which are to begin later: they are not what killed it."""
    worker = scene.stack.services["worker-1"]
    scene.delay(40, 60.0)
    for again_held in (False, True):
        scene.until(lambda: scene.held_by_workers() >= 40, "the worker holds them", 25.0)
        if again_held:
            # Those of the dead one come to it when that one's lease of 12 s has run out.
            scene.sleep(15.0, 16.0)
        worker.kill()
        scene.say("killed the worker, which held 40 tasks for later")
        again(worker, scene)
    scene.publish()
    scene.until(lambda: scene.arrived() > 0, "ordinary work is done", 120.0)
    scene.over("the worker runs, and there is ordinary work")
    scene.until(lambda: scene.arrived() >= scene.messages, "all of it is done", 120.0)
    scene.note_recovery()
    return 0
