"""What is done to a Redis: it is full, cut off, fails over, or says "not now"."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress

from redis import Redis
from redis.exceptions import RedisError

from queuebench.bench.stack import free_port
from tests.faults.kind import begin
from tests.faults.scene import LANES, Scene
from tests.faults.stacks import SLOTS

NOT_NOW_SECONDS = 10.0


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
    """Let the broker have less memory than what waits in it takes; more than it takes by itself."""
    scene.messages = 3000
    with Redis(port=scene.stack.ports["broker"]) as client:
        # With everybody connected; what is below that nobody could ever go on with.
        scene.send()
        scene.until(lambda: scene.arrived() > 0, "something arrives", 60.0)
        alone = client.info("memory")["used_memory"]
        scene.publish(paced=False)
        scene.until(lambda: scene.arrived() > 1, "something arrives", 120.0)
        workers = [service for name, service in scene.stack.services.items() if name.startswith("worker")]
        for worker in workers:
            worker.signal(signal.SIGSTOP)
        scene.until(lambda: client.info("memory")["used_memory"] > alone + 1_100_000, "it fills", 120.0)
        used = client.info("memory")["used_memory"]
        limit_memory(scene, client, alone + scene.chance.randrange(850_000, 1_000_000) - used)
        for worker in workers:
            worker.signal(signal.SIGCONT)
        finish_in_limited_memory(scene, client)
    # What the worker held, where its lease ran out meanwhile.
    return 2 * SLOTS * scene.count("worker")


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


def cut(role: str, name: str = "") -> Callable[[Scene], int]:
    """Cut replies to a role in the middle, of the broker or else of the queue."""

    def act(scene: Scene) -> int:
        line = scene.stack.lines[role, name or scene.queue_server]
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
        scene.over(f"cut {line.cuts} replies to the {role}")
        assert line.cuts, "no reply was cut"
        # A claim whose reply is lost: what ran beside it is given back with it when the lease has run out.
        return 2 * SLOTS if role == "worker" else 0

    return act


def all_published(scene: Scene, role: str) -> bool:
    return role == "publisher" and scene.arrived() >= scene.messages


# "Not now"

Refusal = Callable[[Scene, str], AbstractContextManager[None]]


def refuse_for_now(server: str, code: str) -> Callable[[Scene], int]:
    """Have a Redis, "broker" or "redis", give one of the "not now" answers for some seconds."""

    def act(scene: Scene) -> int:
        begin(scene)
        # A restart forgets what was refused before.
        with scene.stack.client_of(server) as client:
            client.config_resetstat()
        with REFUSALS[code](scene, server):
            scene.say(f"the Redis says {code}")
            scene.sleep(NOT_NOW_SECONDS, NOT_NOW_SECONDS)
        scene.over(f"the Redis says {code} no more")
        with scene.stack.client_of(server) as client:
            said = int((client.info("errorstats").get(f"errorstat_{code}") or {}).get("count", 0))
        said += sum(line.refusals for line in scene.stack.lines.values())
        scene.say(f"it said so {said} times")
        assert said, f"nobody was told {code}"
        # The leases could not be renewed meanwhile.
        return bound_of(scene, server)

    return act


def bound_of(scene: Scene, server: str) -> int:
    """Return what those who use a Redis can have in flight."""
    if server == "broker":
        return 2 * SLOTS * scene.count("worker")
    return LANES["REDIS"] * scene.count("subscriber")


def configured(**options: str) -> Refusal:
    """Refuse by settings, which are set back."""

    @contextmanager
    def refusing(scene: Scene, server: str) -> Iterator[None]:
        with scene.stack.client_of(server) as client:
            before = {name: client.config_get(name)[name] for name in options}
            for name, value in options.items():
                client.config_set(name, value)
            try:
                yield
            finally:
                for name, value in before.items():
                    client.config_set(name, value)

    return refusing


def orphaned(serves: str) -> Refusal:
    """Be the replica of a primary that is not there."""

    @contextmanager
    def refusing(scene: Scene, server: str) -> Iterator[None]:
        stale = configured(**{"replica-serve-stale-data": serves})
        with stale(scene, server), scene.stack.client_of(server) as client:
            client.replicaof("127.0.0.1", free_port())
            try:
                yield
            finally:
                client.replicaof("NO", "ONE")

    return refusing


@contextmanager
def unsaved(scene: Scene, server: str) -> Iterator[None]:
    """Fail to save a snapshot: a folder is where it belongs."""
    place = scene.stack.folder / scene.stack.primary[server] / "dump.rdb"
    place.mkdir()
    (place / "in the way").touch()
    try:
        with configured(save="3600 1000000000")(scene, server), scene.stack.client_of(server) as client:
            client.bgsave()
            scene.until(lambda: client.info()["rdb_last_bgsave_status"] == "err", "it fails to save", 20.0)
            yield
    finally:
        (place / "in the way").unlink()
        place.rmdir()


@contextmanager
def busy(scene: Scene, server: str) -> Iterator[None]:
    """Run a script that does not end."""
    runs = scene.stack.client_of(server).connection_pool.make_connection()
    with configured(**{"lua-time-limit": "50"})(scene, server), scene.stack.client_of(server) as client:
        runs.connect()
        runs.send_command("EVAL", "while true do end", "0")
        try:
            yield
        finally:
            client.script_kill()
            scene.until(lambda: answers(client), "the script ends", 20.0)
            runs.disconnect()


def answers(client: Redis) -> bool:
    """Tell whether a server does what it is told."""
    with suppress(RedisError):
        return bool(client.ping())
    return False


@contextmanager
def loading(scene: Scene, server: str) -> Iterator[None]:
    """Start again, and read slowly what was saved."""
    service = scene.stack.services[scene.stack.primary[server]]
    with scene.stack.client_of(server) as client:
        for number in range(2000):
            client.set(f"filler:{number}", scene.chance.randbytes(1000))  # not to be compressed
        client.bgrewriteaof()
        scene.until(lambda: not client.info()["aof_rewrite_in_progress"], "it is written anew", 20.0)
        service.signal(signal.SIGTERM)
        scene.until_ended(service)
        argv = list(service.argv)
        service.argv += ["--key-load-delay", "100000", "--loading-process-events-interval-bytes", "1024"]
        service.launch()
        service.argv = argv
        try:
            yield
        finally:
            scene.until(lambda: loads_at_once(client), "it has loaded", 60.0)
            client.delete(*(f"filler:{number}" for number in range(2000)))


def loads_at_once(client: Redis) -> bool:
    """Have a server that loads go on without pauses; return whether it is done."""
    with suppress(RedisError):
        client.config_set("key-load-delay", 0)
        return not client.info()["loading"]
    return False


def answered(text: str) -> Refusal:
    """Have the line before the server answer in its place, where the server is no cluster."""

    @contextmanager
    def refusing(scene: Scene, server: str) -> Iterator[None]:
        lines = [line for (_, name), line in scene.stack.lines.items() if name == server]
        for line in lines:
            line.refusals, line.refusal = 0, text.encode()
        try:
            yield
        finally:
            for line in lines:
                line.refusal = b""

    return refusing


REFUSALS: Mapping[str, Refusal] = {
    "READONLY": orphaned("yes"),
    "NOREPLICAS": configured(**{"min-replicas-to-write": "1"}),
    "MISCONF": unsaved,
    "BUSY": busy,
    "LOADING": loading,
    "MASTERDOWN": orphaned("no"),
    "OOM": configured(maxmemory="1"),
    "CLUSTERDOWN": answered("CLUSTERDOWN The cluster is down"),
    "TRYAGAIN": answered("TRYAGAIN Multiple keys request during rehashing of slot"),
}


# Failovers


def fail_over_as_planned(scene: Scene) -> int:
    """Change places with the replica; who is connected stays with the one that is only read from now."""
    scene.messages *= 2
    begin(scene)
    server = scene.stack.layout.replica
    for number in range(2):
        if number:
            scene.sleep(1.0, 3.0)
        with scene.stack.client_of(server) as client, Redis(port=scene.stack.ports[standby(scene)]) as other:
            client.execute_command("FAILOVER", "TIMEOUT", 10_000)
            scene.until(lambda other=other: other.role()[0] == b"master", "the replica takes over", 30.0)  # type: ignore[misc]
        scene.say("the replica is the primary; everybody still asks the other one")
        scene.sleep(1.0, 3.0)
        scene.stack.turn()
        scene.over("new connections go to the new primary")
    return 2 * bound_of(scene, server)


def fail_over_after_a_kill(scene: Scene) -> int:
    """Kill a primary, and have its replica take over with what it has got."""
    begin(scene)
    server = scene.stack.layout.replica
    killed = scene.stack.services[scene.stack.primary[server]]
    killed.kill()
    scene.say(f"killed {killed.name}")
    scene.sleep(1.0, 3.0)
    scene.stack.turn()
    with scene.stack.client_of(server) as client:
        client.replicaof("NO", "ONE")
    for line in scene.stack.lines.values():
        line.drop()
    scene.over("its replica is the primary")
    # The next fault needs a replica again.
    killed.start()
    scene.stack.follow()
    return bound_of(scene, server)


def standby(scene: Scene) -> str:
    return scene.stack.standby().name
