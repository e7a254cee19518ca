"""The pipeline that faults are done to, with what stands between its parts so that they can be done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from redis import Redis
from redis.exceptions import RedisError

from queuebench.bench.stack import Service, Stack, free_port
from tests.faults.gateway import Gateway
from tests.line import Line

SLOTS = 200
SETTINGS = {
    "PUSH_SECONDS": "0.2",
    "WORKER_SLOTS": str(SLOTS),
    # Small, so that messages wait in the queue under test and the subscriber is busy to the end.
    "CELERY_BACKLOG_LIMIT": "800",
}
ROLES = ("publisher", "subscriber", "worker", "monitor", "scene")
SYNC_SECONDS = 30.0


@dataclass(frozen=True)
class Layout:
    """How the stack is built that a kind needs."""

    subscribers: int = 1
    workers: int = 1
    appendfsync: str = "everysec"
    lined: bool = False  # every role reaches every server through a line of its own
    gateway: bool = False
    replica: str = ""  # of which Redis there is one, "broker" or "redis"
    app: str = "queuebench.pipeline.app"
    visibility_seconds: int = 0  # of SQS; 0: its default
    settings: Mapping[str, str] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(repr(self))


class FaultStack(Stack):
    """A stack as a kind of fault needs it."""

    def __init__(self, folder: Path, queue: str, layout: Layout, **options: Any) -> None:
        super().__init__(
            folder,
            queue,
            subscribers=layout.subscribers,
            workers=layout.workers,
            settings=SETTINGS | dict(layout.settings),
            sqs_options=["--latency", "2"],
            appendfsync=layout.appendfsync,
            **{"app": layout.app} | options,
        )
        self.layout = layout
        self.gateway = Gateway(self.ports["endpoint"]) if layout.gateway else None
        self.lines: dict[tuple[str, str], Line] = {}
        # Which process is the one that a Redis is asked at.
        self.primary = {"broker": "broker", "redis": "redis"}
        for role in ROLES if layout.lined or layout.replica else ():
            for server in ("redis", "broker", "sqs"):
                self.lines[role, server] = Line(self.ports[server], splits=server != "sqs")

    def start(self) -> None:
        super().start()
        self.add_replica()
        if self.layout.visibility_seconds and self.queue == "SQS":
            sqs = sqs_client(self.environment["AWS_ENDPOINT_URL_SQS"])
            sqs.set_queue_attributes(
                QueueUrl=sqs.get_queue_url(QueueName="phone_numbers")["QueueUrl"],
                Attributes={"VisibilityTimeout": str(self.layout.visibility_seconds)},
            )
            for name, service in self.services.items():
                if name.startswith("subscriber"):
                    service.stop()
                    service.start()

    def add_replica(self) -> None:
        """Add the replica that the layout asks for, and wait until it has all."""
        if self.layout.replica:
            name = f"{self.layout.replica}-replica"
            self.ports[name] = free_port()
            self.add_redis(name).start()
            self.follow()

    def environment_of(self, name: str) -> Mapping[str, str]:
        role = name.split("-")[0]
        changed = {}
        if self.gateway is not None and role == "worker":
            changed["PUSH_URL"] = self.gateway.url
        if (role, "broker") in self.lines:
            changed["REDIS_PUBSUB_URL"] = self.lines[role, "redis"].url
            changed["REDIS_CELERY_URL"] = self.lines[role, "broker"].url
            changed["AWS_ENDPOINT_URL_SQS"] = f"http://127.0.0.1:{self.lines[role, 'sqs'].listens_at}"
        return self.environment | changed

    def port_of(self, server: str) -> int:
        """Return where a Redis answers whatever befalls it."""
        line = self.lines.get(("scene", server))
        return line.listens_at if line is not None else self.ports[server]

    def client_of(self, server: str) -> Redis:
        """Return a client of the process itself that is asked now."""
        return Redis(port=self.ports[self.primary[server]])

    def standby(self) -> Service:
        """Return the one of a Redis's two processes that is not asked."""
        first = self.layout.replica
        return self.services[f"{first}-replica" if self.primary[first] == first else first]

    def turn(self) -> None:
        """Have new connections go to the other of a Redis's two processes."""
        server = self.layout.replica
        self.primary[server] = self.standby().name
        for (_, name), line in self.lines.items():
            if name == server:
                line.port = self.ports[self.primary[server]]

    def follow(self) -> None:
        """Let the one that is not asked follow the other, and wait until it has all of it.

        Raises:
            TimeoutError: it did not come to that.
        """
        ports = [self.ports[self.standby().name], self.ports[self.primary[self.layout.replica]]]
        give_up_at = time.monotonic() + SYNC_SECONDS
        with Redis(port=ports[0]) as replica:
            replica.replicaof("127.0.0.1", ports[1])
            while time.monotonic() < give_up_at:
                try:
                    if replica.info("replication").get("master_link_status") == "up":
                        return
                except RedisError:
                    pass
                time.sleep(0.05)
        raise TimeoutError(f"the replica has not followed in {SYNC_SECONDS:g} s")

    def close(self) -> None:
        super().close()
        for line in self.lines.values():
            line.close()
        if self.gateway is not None:
            self.gateway.close()


def sqs_client(url: str) -> Any:
    return boto3.client(
        "sqs", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
    )
