"""Real servers for the tests, started here and gone afterwards; no `.env`, no AWS, no Redis but our own."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from hypothesis import HealthCheck, settings
from redis import Redis

from queuebench.bench.stack import Stack, clean_environment
from queuebench.queues import Queue, open_queue
from tests.held_endpoint import Held

if TYPE_CHECKING:
    from tests.browser import Browser

# Nothing that is timed may fail on a busy machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many tests run at a time: two a core, since they mostly wait for servers and for POSTs."""
    return min(2 * len(os.sched_getaffinity(0)), 16)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the searches, which mostly wait: at the end nothing would be left to run beside them."""
    items.sort(key=lambda item: "test_limit.py" not in item.nodeid)


@pytest.fixture(scope="session", autouse=True)
def no_settings_of_this_machine() -> Iterator[None]:
    """Take every setting and everything of AWS out of the environment."""
    before = dict(os.environ)
    kept = clean_environment()
    os.environ.clear()
    os.environ.update(kept)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Redis and a local SQS without latency, for tests of single parts."""
    stack = Stack(tmp_path_factory.mktemp("servers"), "REDIS", sqs_options=["--latency", "0"])
    try:
        for service in (stack.add_redis("redis"), stack.add_sqs()):
            service.start()
        yield stack
    finally:
        stack.close()


@pytest.fixture
def redis_url(servers: Stack) -> str:
    return servers.environment["REDIS_PUBSUB_URL"]


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    client = Redis.from_url(redis_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def sqs(servers: Stack) -> Iterator[Any]:
    """A plain boto3 client of the local SQS."""
    client = boto3.client(
        "sqs",
        endpoint_url=servers.environment["AWS_ENDPOINT_URL_SQS"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    yield client
    client.close()


@pytest.fixture
def held() -> Iterator[Held]:
    server = Held()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.may_answer.set()
    server.shutdown()
    server.server_close()


Opener = Callable[..., Queue]


@pytest.fixture(params=["REDIS", "SQS", "SQS-FIFO"])
def open_fresh(request: pytest.FixtureRequest, servers: Stack, redis: Redis, sqs: Any) -> Iterator[Opener]:
    """Open the test's queue as often as wanted: each call is another client of the same queue.

    What a dead consumer held comes back after a second.
    """
    name = f"test-{uuid.uuid4().hex[:12]}" + (".fifo" if request.param == "SQS-FIFO" else "")
    opened: list[Queue] = []
    created = False

    def open_it(**changes: Any) -> Queue:
        nonlocal created
        options: dict[str, Any] = {
            "channel_name": name,
            "redis_pubsub_url": servers.environment["REDIS_PUBSUB_URL"],
            "lease_seconds": 1.0,
            "queue_names": [name],
            "aws_region": "",
            "aws_endpoint_url_sqs": servers.environment["AWS_ENDPOINT_URL_SQS"],
            "local_sqs": True,
            "aws_create_queues": False,
            "sqs_threads": 2,
        }
        queue = open_queue(request.param.split("-")[0], options | changes)
        opened.append(queue)
        queue.check()
        if request.param != "REDIS" and not created:
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
            sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "1"})
            created = True
        return queue

    yield open_it
    for queue in opened:
        queue.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    from tests.browser import started

    yield from started(tmp_path_factory.mktemp("chromium"))
