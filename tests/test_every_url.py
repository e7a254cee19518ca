"""Each form of a Redis URL, through every role: it works in all of them, or all refuse it with one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis, RedisError

from queuebench.bench.stack import Service, Stack, clean_environment, free_port, redis_server_command
from tests import ROOT

pytestmark = pytest.mark.slow

PASSWORD = "hunter2#/@:;%&?=+ ü"
ROLES = (
    "publisher.py 1",
    "subscriber.py",
    "-m celery -A task worker",
    "-m queuebench monitor --port 0",
    "-m queuebench endpoint --port 0",
    "-m queuebench dead-letters",
)


class FormsStack(Stack):
    """A stack with one guarded Redis that is reached in other ways than by host and port alone."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "REDIS", pool="threads", settings={"PUSH_SECONDS": "0", "WORKER_SLOTS": "5"})
        self.socket, self.certificate, self.tls_port = folder / "s", folder / "certificate", free_port()

    def add_redis(self, name: str) -> Service:
        argv = [
            redis_server_command(),
            "--port",
            str(self.ports[name]),
            "--save",
            "",
            "--dir",
            str(self.folder),
        ]
        argv += ["--requirepass", PASSWORD]
        if name == "redis":
            argv += ["--unixsocket", str(self.socket)]
            if self.certificate.exists():
                argv += ["--tls-port", str(self.tls_port), "--tls-auth-clients", "no"]
                argv += ["--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.folder / "key")]
        return self._add(name, argv, lambda: answers(self.ports[name]))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )


def answers(port: int) -> bool:
    with Redis(port=port, password=PASSWORD) as client:
        try:
            return bool(client.ping())
        except RedisError:
            return False


def certify(folder: Path) -> None:
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    made += (
        f" -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout {folder}/key -out {folder}/certificate"
    )
    try:
        subprocess.run(made.split(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl")
    if b"libssl" not in subprocess.run(["ldd", redis_server_command()], capture_output=True).stdout:
        pytest.skip("a server without TLS")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[FormsStack]:
    yield FormsStack(tmp_path)


@pytest.mark.parametrize(
    "forms",
    [
        ("unix://default:{p}@{s}?db=2", "redis+socket://:{p}@{s}?virtual_host=3"),
        ("redis://localhost:{port}?db=2&password={p}", "redis://default:{p}@127.0.0.1:{port}/3"),
        (
            "rediss://:{p}@127.0.0.1:{tls}/2?ssl_cert_reqs=CERT_NONE",
            "rediss://:{p}@localhost:{tls}/3?ssl_ca_certs={c}",
        ),
    ],
    ids=["sockets", "queries and escapes", "TLS"],
)
def test_what_one_role_takes_every_role_takes(forms: Sequence[str], stack: FormsStack) -> None:
    if forms[0].startswith("rediss"):
        certify(stack.folder)
    for name, form in zip(("REDIS_PUBSUB_URL", "REDIS_CELERY_URL"), forms, strict=True):
        stack.environment[name] = form.format(
            p=quote(PASSWORD, safe=""),
            s=stack.socket,
            port=stack.ports["redis"],
            tls=stack.tls_port,
            c=stack.certificate,
        )
    with stack:
        shipped = stack.run("publisher.py", "5", "--wait")
        assert shipped.returncode == 0, shipped.stdout
        with Redis(port=stack.ports["redis"], password=PASSWORD, db=3) as broker:
            broker.rpush("dead_letters", b'{"reason":"a test","body":"x"}')
        listed = stack.run("-m", "queuebench", "dead-letters")
        assert "1 dead letters" in listed.stdout and listed.returncode == 0
        stats = stack.run("-m", "celery", "-A", "task", "inspect", "stats")
        assert "prefetch_count" in stats.stdout
        outputs = [shipped.stdout, listed.stdout, stats.stdout]
        outputs += [path.read_text() for path in stack.folder.rglob("logs/*.log")]
        assert not [line for text in outputs for line in text.splitlines() if "hunter2" in line]


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("REDIS_PUBSUB_URL", "redis://:hunter2@h?socket_timeout=5"),
        ("REDIS_CELERY_URL", "redis://h?foo=hunter2"),
        ("REDIS_CELERY_URL", "redis://:hunter2@h/celery"),
        ("REDIS_PUBSUB_URL", "rediss://:hunter2@h?ssl_cert_reqs=CERT_PERHAPS"),
        ("REDIS_CELERY_URL", "redis://:hunter2#@h..h"),
    ],
)
def test_what_one_role_refuses_every_role_refuses_with_the_same_line(name: str, url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, *role.split()],
            cwd=ROOT,
            env=clean_environment() | {name: url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for role in ROLES
    ]
    said = set()
    for process in processes:
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 2, output
        assert output.count("\n") == 1 and "hunter2" not in output, output
        said.add(output.partition(": ")[2])
    assert len(said) == 1 and name in said.pop()
