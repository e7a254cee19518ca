"""What a role needs of a Redis is tried at its start, named in one line, and enough."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from queuebench.bench.stack import Stack
from queuebench.broker.broker import Broker
from queuebench.broker.dead_letters import KEY, DeadLetter
from queuebench.errors import QueueError, TryLater
from queuebench.plumbing.redis_client import connect
from queuebench.plumbing.redis_rights import NOWHERE, Needs, key, require
from queuebench.queues.redis_list import RedisList
from tests import ROOT
from tests.test_redis_client import own, trouble
from tests.transport_fixtures import Server, server_binaries

__all__ = ["own"]

USES = ["send", "receive", "look"]
BROKER_USES = ["hand over", "work", "drain", "look", "list", "resend"]
CHANNEL = "phone_numbers"
_GRANT = re.compile(r"grant it: ACL SETUSER (.*?)(?: \(the rest|$)")


def check_queue(use: Any, url: str) -> None:
    RedisList(redis_pubsub_url=url, channel_name=CHANNEL).try_rights(use)


def check_broker(use: Any, url: str) -> None:
    Broker(url).check(use)


CHECKS: dict[str, Callable[[str], None]] = {
    **{f"queue: {use}": partial(check_queue, use) for use in USES},
    **{f"broker: {use}": partial(check_broker, use) for use in BROKER_USES},
}


def user_url(server: Server, *rules: str) -> str:
    server.client.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", *rules)
    return f"redis://app:secret@127.0.0.1:{server.port}/0"


def refusal(check: Callable[[str], None], url: str) -> str:
    """Return the one line that a check ends with, '' where it passes."""
    try:
        check(url)
    except QueueError as error:
        assert "\n" not in str(error) and "secret" not in str(error)
        return str(error)
    return ""


def granted(client: Redis, check: Callable[[str], None], url: str) -> list[str]:
    """Grant what the lines say until the check passes; return all of it."""
    rules: list[str] = []
    for _ in range(3):
        line = refusal(check, url)
        if not line:
            return rules
        _, *more = shlex.split(_GRANT.findall(line)[0])
        client.execute_command("ACL", "SETUSER", url.partition("//")[2].partition(":")[0], *more)
        rules += more
    raise AssertionError(f"not granted after three lines: {line}")


@pytest.mark.parametrize("name", CHECKS)
def test_each_missing_right_is_named_in_one_line_that_grants_it(own: Server, name: str) -> None:
    check = CHECKS[name]
    rules = granted(own.client, check, user_url(own))
    assert rules
    for rule in rules:
        url = user_url(own, *(other for other in rules if other != rule))
        line = refusal(check, url)
        if not line:
            # Another grants the same: `celery*` what `celery` does.
            assert rule[0] != "+"
            continue
        assert rule in _GRANT.findall(line)[0].replace("'", ""), line
        assert "the user app" in line
        own.client.execute_command("ACL", "SETUSER", "app", *shlex.split(_GRANT.findall(line)[0])[1:])
        assert rule == "+multi" or not refusal(check, url)
    assert own.client.dbsize() == 0


@pytest.mark.parametrize("name", CHECKS)
def test_each_command_may_be_missing_where_all_else_is_granted(own: Server, name: str) -> None:
    check = CHECKS[name]
    for rule in granted(own.client, check, user_url(own)):
        if rule[0] == "+":
            line = refusal(check, user_url(own, "allcommands", "allkeys", "allchannels", f"-{rule[1:]}"))
            assert rule in shlex.split(_GRANT.findall(line)[0]), (rule, line)


@pytest.mark.parametrize("binary", server_binaries())
def test_a_command_that_a_server_renamed_is_named(binary: str, tmp_path: Path) -> None:
    server = Server(binary, tmp_path)
    names = {"EVALSHA": "", "HELLO": "", "SADD": "x"}
    server.start(*(word for old, new in names.items() for word in ("--rename-command", old, new)))
    try:
        line = refusal(CHECKS["queue: receive"], server.url)
        assert "does not know EVALSHA, SADD" in line and "renamed or disabled" in line
        assert not refusal(CHECKS["queue: send"], server.url)
    finally:
        server.kill()


@pytest.mark.parametrize("code", ["NOREPLICAS", "READONLY", "MASTERDOWN", "MISCONF", "BUSY"])
def test_a_server_that_takes_nothing_for_now_lacks_no_right(own: Server, code: str) -> None:
    client = connect(own.url)
    with trouble(own)[code](), pytest.raises(TryLater):
        require(client, {key("key"): "SET"})
    require(client, {key("key"): "SET"})


def test_what_is_missing_is_named_whatever_the_server_takes_for_now(own: Server) -> None:
    client = connect(user_url(own, "+multi", "+get", "~other"))
    with trouble(own)["NOREPLICAS"](), pytest.raises(QueueError, match=r"\+set ~key$") as caught:
        require(client, {key("key"): "SET", key("other"): "GET", NOWHERE: "MULTI"})
    assert not isinstance(caught.value, TryLater)


def test_a_full_server_is_worked_with(own: Server) -> None:
    needs: Needs = {key("key"): "SET"}
    with trouble(own)["OOM"]():
        require(connect(own.url), needs)


# The roles


class OfUsers(Stack):
    """Each role has a user of its own at both servers, with the rights that its start names."""

    def start_servers(self) -> None:
        self.clients = {}
        for name in ("broker", "redis"):
            self.add_redis(name).start()
            self.clients[name] = Redis(port=self.ports[name])
        for role, checks in ROLES.items():
            for server, check in zip(("redis", "broker"), checks, strict=True):
                client = self.clients[server]
                client.execute_command("ACL", "SETUSER", role, "reset", "on", ">secret")
                if check is not None:
                    granted(client, check, self.url(server, role))

    def start(self) -> None:
        """Start what is no server: those run already."""
        endpoint = self.add_module("endpoint", "--log", str(self.folder / "endpoint.log"))
        monitor = self.add_module("monitor", "--results", str(self.results))
        services = (endpoint, monitor, self.add_worker(1), self.add_subscriber(1))
        for service in services:
            service.launch()
        for service in services:
            service.wait_until_ready()

    def url(self, server: str, role: str) -> str:
        return f"redis://{role}:secret@127.0.0.1:{self.ports[server]}/0"

    def environment_of(self, name: str) -> Mapping[str, str]:
        role = name.partition("-")[0]
        if role not in ROLES:
            return self.environment
        urls = {"REDIS_PUBSUB_URL": self.url("redis", role), "REDIS_CELERY_URL": self.url("broker", role)}
        return self.environment | urls

    def run(self, role: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env=self.environment_of(role),
            capture_output=True,
            text=True,
            timeout=90,
        )


# What each does at the queue and at the broker, and how it is started.
ROLES: dict[str, tuple[Callable[[str], None] | None, Callable[[str], None] | None]] = {
    "publisher": (CHECKS["queue: send"], None),
    "subscriber": (CHECKS["queue: receive"], CHECKS["broker: hand over"]),
    "worker": (None, CHECKS["broker: work"]),
    "monitor": (CHECKS["queue: look"], CHECKS["broker: look"]),
    "resend": (CHECKS["queue: send"], CHECKS["broker: resend"]),
}
COMMANDS = {
    "publisher": ("queuebench", "publisher", "1"),
    "subscriber": ("queuebench", "subscriber"),
    "worker": ("celery", "-A", "task", "worker"),
    "monitor": ("queuebench", "monitor", "--port", "0"),
    "resend": ("queuebench", "dead-letters", "resend"),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfUsers]:
    settings = {"PUSH_SECONDS": "0.1", "WORKER_SLOTS": "50"}
    stack = OfUsers(tmp_path_factory.mktemp("rights"), "REDIS", settings=settings)
    try:
        stack.start_servers()
        yield stack
    finally:
        stack.close()


@pytest.mark.slow
@pytest.mark.parametrize("role", COMMANDS)
def test_a_role_that_lacks_a_right_ends_with_one_line(stack: OfUsers, role: str) -> None:
    server, rule = "redis" if ROLES[role][1] is None else "broker", "-multi"
    client = stack.clients[server]
    client.execute_command("ACL", "SETUSER", role, rule)
    try:
        ended = stack.run(role, *COMMANDS[role])
    finally:
        client.execute_command("ACL", "SETUSER", role, rule.replace("-", "+"))
    assert ended.returncode == 2, ended
    (line,) = [line for line in ended.stderr.splitlines() if "ACL" in line]
    assert f"grant it: ACL SETUSER {role} +multi" in line
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_what_the_lines_name_is_enough_for_a_whole_run(stack: OfUsers) -> None:
    for client in stack.clients.values():
        client.execute_command("ACL", "LOG", "RESET")
    stack.clients["broker"].rpush(KEY, DeadLetter("x", b'{"p": "1", "m": "x"}').encode())
    with stack:
        done = stack.run("resend", "queuebench", "dead-letters", "resend")
        assert done.returncode == 0 and "1 of 1" in done.stdout, done
        done = stack.run("publisher", "queuebench", "publisher", "500", "--wait")
        assert "accepted 500 of 500" in done.stdout, done
        told = stack.run("worker", "celery", "-A", "task", "inspect", "ping")
        assert "pong" in told.stdout, told
        assert "asking for them every" in stack.services["worker-1"].output()
        refused = {
            (entry["username"], entry["object"])
            for client in stack.clients.values()
            for entry in client.acl_log()
        }
        said = stack.services["monitor"].output()
        assert "without INFO" in said and said.count("without INFO") == 2
    # There is another way than these, or redis-py does without.
    allowed = {"client|setinfo", "client|id", "client|tracking", "info", "config|get", "__redis__:invalidate"}
    assert not {entry for entry in refused if entry[1] not in allowed}


def test_the_page_names_the_rights(own: Server) -> None:
    page = (ROOT / "docs" / "redis.md").read_text()
    for check in CHECKS.values():
        rules = set(granted(own.client, check, user_url(own)))
        assert f"| `{' '.join(sorted(rules, key=lambda rule: ('+~&'.index(rule[0]), rule)))}` |" in page
