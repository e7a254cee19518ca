"""What is done to connections: they are closed, one or all, or carry nothing any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.faults.kind import begin
from tests.faults.redis_servers import bound_of
from tests.faults.scene import Scene
from tests.line import Line

IDLE_SECONDS = 3.0  # that pass between a fault and the message that comes next


def close_all(scene: Scene, server: str) -> None:
    """Close every connection of a Redis, or to the local SQS."""
    if server == "sqs":
        closed = sum(line.drop() for (_, name), line in scene.stack.lines.items() if name == server)
        scene.over(f"closed {closed} connections to the local SQS")
        return
    with scene.stack.client_of(server) as client:
        closed = sum(
            int(client.execute_command("CLIENT", "KILL", "TYPE", kind)) for kind in ("normal", "pubsub")
        )
    scene.over(f"closed {closed} connections of {server}")


def close_one(scene: Scene, server: str) -> None:
    """Close one connection of those that others than this process have."""
    if server == "sqs":
        lines = [
            line for (_, name), line in scene.stack.lines.items() if name == server and line.connections()
        ]
        scene.over(f"closed {scene.chance.choice(lines).drop(scene.chance)} connection to the local SQS")
        return
    with scene.stack.client_of(server) as client:
        own = client.client_id()
        found: list[dict[str, Any]] = [one for one in client.client_list() if int(one["id"]) != own]
        victim = scene.chance.choice(found)
        client.execute_command("CLIENT", "KILL", "ID", victim["id"])
    what = "subscribed" if "P" in victim["flags"] else victim["cmd"]
    scene.over(f"closed one of {len(found)} connections of {server} ({what})")


def closed_while_idle(close: Callable[[Scene, str], None], server: str, times: int) -> Callable[[Scene], int]:
    """Close connections while nothing happens; see each time whether the next message arrives."""

    def act(scene: Scene) -> int:
        for _ in range(times):
            close(scene, server or scene.queue_server)
            scene.sleep(IDLE_SECONDS, IDLE_SECONDS)
            scene.probe()
        return afterwards(scene)

    return act


def closed_at_work(close: Callable[[Scene, str], None], server: str, times: int) -> Callable[[Scene], int]:
    """Close connections while messages flow."""

    def act(scene: Scene) -> int:
        where = server or scene.queue_server
        begin(scene)
        for number in range(times):
            if number:
                scene.sleep(0.2, 1.5)
            close(scene, where)
        return times * bound_of(scene, where)

    return act


def close_what_is_idle(server: str) -> Callable[[Scene], int]:
    """Let a server close what has been idle for a second, as the setting `timeout` does."""

    def act(scene: Scene) -> int:
        with scene.stack.client_of(server or scene.queue_server) as client:
            client.config_set("timeout", 1)
            scene.sleep(IDLE_SECONDS, 2 * IDLE_SECONDS)
            scene.over("the server closes what is idle for a second")
            scene.probe()
            client.config_set("timeout", 0)
        return afterwards(scene)

    return act


def half_open_while_idle(role: str, server: str) -> Callable[[Scene], int]:
    """Have the connections of a role carry nothing any more, without a word, while nothing happens."""

    def act(scene: Scene) -> int:
        line = line_of(scene, role, server)
        scene.probe()
        swallowed = line.swallow()
        scene.over(f"{swallowed} connections of the {role} carry nothing any more")
        assert swallowed, "there was none"
        scene.probe()
        return afterwards(scene)

    return act


def half_open_at_work(role: str, server: str, seconds: float = 0.0) -> Callable[[Scene], int]:
    """Do so while messages flow; with `seconds`, new connections carry nothing either for so long."""

    def act(scene: Scene) -> int:
        line = line_of(scene, role, server)
        scene.publish()
        scene.until(lambda: scene.arrived() > scene.messages * 0.1, "a tenth arrives", 120.0)
        line.swallows_all = seconds > 0
        swallowed = line.swallow()
        scene.say(f"{swallowed} connections of the {role} carry nothing any more")
        scene.sleep(seconds, seconds)
        if line.swallows_all:
            # What was opened meanwhile stays as it is.
            line.swallows_all = False
        scene.over("new connections carry what they are given")
        assert swallowed, "there was none"
        return 2 * bound_of(scene, server or scene.queue_server)

    return act


def line_of(scene: Scene, role: str, server: str) -> Line:
    return scene.stack.lines[role, server or scene.queue_server]


def afterwards(scene: Scene) -> int:
    """Publish a small run, so that all is in order."""
    scene.messages = 300
    scene.publish()
    return 0
