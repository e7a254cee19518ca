"""What a Redis says that means "not now", told apart from "never"."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from queuebench.errors import QueueError, Unreachable
from queuebench.plumbing.redis_client import connect, explained, is_not_now
from tests.line import Line
from tests.transport_fixtures import Server, server_binaries, until

SCRIPT = "return redis.call('SET', KEYS[1], 'x')"
BUSY = "local t = redis.call('TIME')[1] + ARGV[1] while redis.call('TIME')[1] + 0 < t do end"


@pytest.fixture(scope="module", params=server_binaries())
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(request.param, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@contextlib.contextmanager
def configured(client: Redis, **values: str | int) -> Iterator[None]:
    names = {name.replace("_", "-"): value for name, value in values.items()}
    before = {name: client.config_get(name)[name] or "" for name in names}
    for name, value in names.items():
        client.config_set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            client.config_set(name, value)


@contextlib.contextmanager
def replica_of_nobody(client: Redis) -> Iterator[None]:
    client.replicaof("127.0.0.1", 1)
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


@contextlib.contextmanager
def failing_saves(client: Redis, folder: Path) -> Iterator[None]:
    """Let the server's last snapshot have failed: a folder has its name."""
    obstacle = folder / "dump.rdb" / "in the way"
    (folder / "dump.rdb").unlink(missing_ok=True)
    obstacle.mkdir(parents=True)
    with configured(client, save="3600 1000000"):
        client.bgsave()
        until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the snapshot fails")
        shutil.rmtree(folder / "dump.rdb")
        yield
        client.bgsave()
        until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok", "a snapshot is made")


@contextlib.contextmanager
def busy(client: Redis, url: str, seconds: int = 2) -> Iterator[None]:
    with configured(client, busy_reply_threshold=50):
        other = Redis.from_url(url, socket_timeout=60)
        thread = threading.Thread(target=other.eval, args=(BUSY, 0, seconds), daemon=True)
        thread.start()
        until(lambda: _refuses(client), "the server is busy", 10)
        yield
        thread.join()


def _refuses(client: Redis) -> bool:
    try:
        client.ping()
    except Exception:
        return True
    return False


def trouble(own: Server) -> dict[str, Callable[[], Any]]:
    client = own.client
    return {
        "NOREPLICAS": lambda: configured(client, min_replicas_to_write=1),
        "OOM": lambda: configured(client, maxmemory=1),
        "READONLY": lambda: replica_of_nobody(client),
        "MASTERDOWN": lambda: _stack(
            configured(client, replica_serve_stale_data="no"), replica_of_nobody(client)
        ),
        "MISCONF": lambda: failing_saves(client, own.folder),
        "BUSY": lambda: busy(client, own.url),
    }


@contextlib.contextmanager
def _stack(*contexts: Any) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


def set_in_transaction(client: Redis) -> None:
    with client.pipeline(transaction=True) as pipe:
        pipe.set("key", "x")
        pipe.execute()


@pytest.mark.parametrize("code", ["NOREPLICAS", "OOM", "READONLY", "MASTERDOWN", "MISCONF", "BUSY"])
def test_a_server_that_refuses_for_now_counts_as_away(own, code):
    client = connect(own.url)
    with trouble(own)[code]():
        commands: list[Callable[[], object]] = [
            lambda: client.set("key", "x"),
            lambda: client.eval(SCRIPT, 1, "key"),
            lambda: set_in_transaction(client),
        ]
        for command in commands if code != "BUSY" else commands[:1]:
            with pytest.raises(Unreachable), explained(client):
                command()
    with explained(client):
        client.set("key", "x")


def test_who_is_left_with_a_server_that_only_reads_finds_the_one_that_took_over(own, tmp_path):
    other = Server(own.binary, tmp_path)
    other.start()
    line = Line(own.port)
    client = connect(line.url)
    with contextlib.closing(line), client, replica_of_nobody(own.client):
        with pytest.raises(Unreachable), explained(client):
            client.set("x", 1)
        line.port = other.port
        with explained(client):
            client.set("x", 2)
    assert other.client.get("x") == b"2"
    other.kill()


def test_what_is_never_taken_is_no_not_now(own):
    client = connect(own.url)
    client.set("key", "READONLY")
    with pytest.raises(QueueError) as caught, explained(client):
        client.lpush("key", "BUSY", "-OOM")
    assert not isinstance(caught.value, Unreachable)
    assert caught.value.__cause__ is not None and not is_not_now(caught.value.__cause__)
    with pytest.raises(QueueError) as caught, explained(client):
        client.eval("return redis.call('LPUSH', KEYS[1], 'x')", 1, "key")
    assert not isinstance(caught.value, Unreachable)
