"""What Celery's command line, Flower and celery-exporter show of a Redis broker, they show of ours."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from celery import Celery
from flower.utils.broker import Broker as FlowerBroker
from redis import Redis

from queuebench.bench.stack import Service
from queuebench.broker import transport
from tests import ROOT
from tests.transport_fixtures import Server, free_port, server, until

pytestmark = pytest.mark.slow

__all__ = ["server"]

NODE = "one@h"
WAITING = 3  # tasks in a queue that nobody takes from


class Tools:
    """A broker with one worker and Flower, and a queue with some tasks in which nobody is interested."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.environment = os.environ | {
            "REDIS_CELERY_URL": server.url,
            "WORKER_SLOTS": "2",
            "PUSH_SECONDS": "0.01",
            "FLOWER_UNAUTHENTICATED_API": "true",
        }
        celery = [sys.executable, "-m", "celery", "-A", "task"]
        self.flower = f"http://127.0.0.1:{free_port()}"
        self.services = []
        for name, argv, ready in (
            ("worker", [*celery, "worker", "-E", "-n", NODE], "worker: ready"),
            ("flower", [*celery, "flower", f"--port={self.flower.rpartition(':')[2]}"], "Connected to"),
        ):
            service = Service(name, argv, self.environment, folder / f"{name}.log", ready)
            self.services.append(service)
            service.start()

    def close(self) -> None:
        for service in self.services:
            service.kill()

    def get(self, path: str, status: int = 200) -> requests.Response:
        answer = requests.get(self.flower + path, timeout=60)
        assert answer.status_code == status, (path, answer.text)
        return answer

    def post(self, path: str, status: int = 200, **fields: Any) -> Any:
        # A call that carries arguments is JSON, the others are forms.
        has_arguments = "args" in fields
        answer = requests.post(
            self.flower + path,
            json=fields if has_arguments else None,
            data=None if has_arguments else fields,
            timeout=60,
        )
        assert answer.status_code == status, (path, answer.text)
        return answer.json() if status == 200 else answer.text

    def commands(self, *commands: list[str]) -> list[tuple[int, str]]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.celery_commands"],
            cwd=ROOT,
            env=self.environment,
            input=json.dumps(commands),
            stdout=subprocess.PIPE,
            text=True,
            timeout=300,
        )
        results = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(results) == len(commands), done.stdout
        return [(code, text) for code, text in results]


@pytest.fixture(scope="module")
def tools(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    tools = Tools(server, tmp_path_factory.mktemp("tools"))
    yield tools
    tools.close()


INSPECTED = {
    "active": "empty",
    "active_queues": "'name': 'celery'",
    "clock": "clock",
    "conf": "task_acks_late",
    "memdump": "rss",
    "memsample": "OK",
    "ping": "pong",
    "query_task x": "{}",
    "registered": "push_data",
    "report": "redis://",
    "reserved": "empty",
    "revoked": "empty",
    "scheduled": "empty",
    "stats": '"transport": "redis"',
}
CONTROLLED = {
    "add_consumer other": "add consumer other",
    "cancel_consumer other": "no longer consuming from other",
    "disable_events": "task events",
    "enable_events": "task events",
    "heartbeat": "OK",
    "rate_limit push_data 100/s": "new rate limit set",
    "revoke x": "flagged as revoked",
    "revoke_by_stamped_headers a=b": "flagged as revoked",
    "terminate SIGTERM x": "OK",
    "time_limit push_data 60": "time limits set",
    # What the pool of threads does not have, or what has to be turned on, is said as on any broker.
    "autoscale 3 1": "Autoscale not enabled",
    "pool_grow 1": "grow",
    "pool_shrink 1": "shrink",
    "pool_restart": "Pool restarts not enabled",
}
OTHERS = {
    "status": f"{NODE}: OK",
    "list bindings": "celery",
    "report": "redis://",
    "graph bootsteps": "digraph",
    "graph workers": "redis://",
    "amqp": "connected",
    "shell --python": "pong",
    'call push_data -a ["+1","x"]': "-",
    "purge -f -Q others": f"Purged {WAITING} messages",
}


def test_every_command_of_celery_answers(tools: Tools) -> None:
    app = Celery(broker=tools.server.url, set_as_current=False)
    for _ in range(WAITING):
        app.send_task("push_data", ("+1", "x"), queue="others")
    wanted = {f"inspect {words}": said for words, said in INSPECTED.items()}
    wanted |= {f"control {words}": said for words, said in CONTROLLED.items()}
    asked = [[*words.split(), "-d", NODE, "-t", "60"] for words in wanted]
    wanted |= OTHERS
    asked += [words.split() for words in OTHERS]
    for words, said, (code, text) in zip(wanted, wanted.values(), tools.commands(*asked), strict=True):
        assert code == 0 and said in text and "leased://" not in text, (words, code, text)
        assert "ERROR" not in text or said in CONTROLLED.values(), (words, text)


def test_events_are_dumped_as_they_happen(tools: Tools) -> None:
    dump = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "task", "events", "--dump"],
        cwd=ROOT,
        env=tools.environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert dump.stdout is not None
        # A heartbeat says that it listens.
        assert any("worker-heartbeat" in line or "heartbeat" in line for line in dump.stdout)
        Celery(broker=tools.server.url, set_as_current=False).send_task("push_data", ("+1", "seen"))
        assert any("succeeded" in line for line in dump.stdout)
    finally:
        dump.kill()
        dump.communicate()


def test_every_page_and_call_of_flower_answers(tools: Tools) -> None:
    app = Celery(broker=tools.server.url, set_as_current=False)
    task = app.send_task("push_data", ("+1", "x")).id
    tools.get("/api/workers?refresh=1")
    until(lambda: tools.get("/api/tasks").json().get(task, {}).get("state") == "SUCCESS", "it is shown")

    for path in ("/", "/workers", f"/worker/{NODE}"):
        assert NODE in tools.get(path).text, path
    assert "redis://" in tools.get("/broker").text
    lengths = tools.get("/api/queues/length").json()["active_queues"]
    assert lengths[0]["name"] == "celery" and type(lengths[0]["messages"]) is int
    tools.get("/tasks")
    assert task in tools.get(f"/task/{task}").text
    assert tools.get("/workers?json=1").json()["data"][0]["hostname"] == NODE
    assert tools.get("/api/workers").json()[NODE]["stats"]["broker"]["transport"] == "redis"
    assert "push_data" in tools.get("/api/task/types").json()["task-types"]
    assert tools.get(f"/api/task/info/{task}").json()["name"] == "push_data"
    assert "flower_events_total" in tools.get("/metrics").text
    assert tools.get("/healthcheck").text == "OK"

    for path in (f"queue/add-consumer/{NODE}", f"queue/cancel-consumer/{NODE}"):
        tools.post(f"/api/worker/{path}", queue="elsewhere")
    sent = {
        tools.post(f"/api/task/{call}/push_data", args=["+1", "y"])["task-id"]
        for call in ("async-apply", "send-task")
    }
    until(
        lambda: all(tools.get("/api/tasks").json().get(one, {}).get("state") == "SUCCESS" for one in sent),
        "what Flower sent has run",
    )
    tools.post("/api/task/rate-limit/push_data", workername=NODE, ratelimit="100/s")
    tools.post("/api/task/timeout/push_data", workername=NODE, hard="60")
    tools.post("/api/task/revoke/nobody")


@pytest.mark.parametrize("kind", ["its own", "ours"])
def test_celery_exporter_has_what_it_exports(tools: Tools, kind: str) -> None:
    """celery-exporter cannot be installed from the index; here a broker is asked what it asks."""
    url = tools.server.url if kind == "its own" else transport.url(tools.server.url)
    app = Celery(broker=url, set_as_current=False)
    app.send_task("push_data", ("+1", "x"), queue=f"for {kind}")
    with app.connection() as connection:
        assert connection.info()["transport"] == "redis"
        assert connection.default_channel.client.llen(f"for {kind}") == 1
        asked = app.control.inspect(destination=[NODE], timeout=60, connection=connection)
        assert "pool" in asked.stats()[NODE]
        assert asked.active_queues()[NODE][0]["name"] == "celery"
        seen: set[str] = set()
        receiver = app.events.Receiver(connection, handlers={"*": lambda event: seen.add(event["type"])})
        events = receiver.itercapture(limit=None, timeout=60, wakeup=True)
        next(events)
        app.send_task("push_data", ("+1", "x"))
        until(
            lambda: (
                next(events) is None
                and seen >= {"worker-heartbeat", "task-received", "task-started", "task-succeeded"}
            ),
            "all of its events have come",
        )


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (
            "redis://user:pass%40word@127.0.0.1:{port}/3",
            {"db": 3, "password": "pass@word"},
        ),
        ("rediss://127.0.0.1:{port}/1?ssl_cert_reqs=CERT_NONE", {"db": 1, "ssl_cert_reqs": "none"}),
        ("unix://{socket}", {"path": "{socket}"}),
    ],
)
def test_flower_reads_any_broker_s_url(server: Server, url: str, options: dict[str, Any]) -> None:
    places = {"port": server.port, "socket": server.folder / "socket"}
    settings = transport.celery_settings(url.format(**places), 1)
    app = Celery(set_as_current=False)
    app.conf.update(settings)
    with app.connection() as connection:
        shown = connection.as_uri()
        read = FlowerBroker(
            connection.as_uri(include_password=True),
            broker_options=app.conf.broker_transport_options,
            broker_use_ssl=app.conf.broker_use_ssl,
        )
    assert "leased" not in shown and "word" not in shown
    given = read.redis.connection_pool.connection_kwargs
    wanted = {
        name: str(value).format(**places) if name == "path" else value for name, value in options.items()
    }
    assert given | wanted == given
    if "path" in options:
        with Redis.from_url(server.url) as client:
            client.rpush("waits", "a", "b")
        assert asyncio.run(read.queues(["waits"])) == [{"name": "waits", "messages": 2}]
