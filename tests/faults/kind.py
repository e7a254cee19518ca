"""What a kind of fault is, and what most of them begin with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from queuebench.bench.stack import Service
from tests.faults.scene import Scene
from tests.faults.stacks import Layout

BOTH = ("REDIS", "SQS")

# What plain Celery has nothing of: its queue is its broker.
OURS_ALONE = ("subscriber", "monitor", "SQS", "queue's Redis", "visibility", "shipments a task")

ONE, MANY = Layout(), Layout(subscribers=3, workers=2)
ALWAYS, LINED = Layout(appendfsync="always"), Layout(lined=True)
BROKER_REPLICA, QUEUE_REPLICA = Layout(replica="broker"), Layout(replica="redis")
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

    @property
    def has_stock(self) -> bool:
        """Whether plain Celery has what it is done to."""
        return not any(word in self.name for word in OURS_ALONE)


def again(service: Service, scene: Scene, lowest: float = 0.0, highest: float = 2.0) -> None:
    """Start a service again after a while, as whoever watches over it does."""
    scene.sleep(lowest, highest)
    service.start()
    scene.over(f"{service.name} runs again")


def pick(scene: Scene, role: str) -> Service:
    names = [name for name in scene.stack.services if name.split("-")[0] == role]
    return scene.stack.services[scene.chance.choice(names)]


def begin(scene: Scene) -> None:
    scene.publish(paced=scene.chance.random() < 0.5)
    scene.random_moment()
