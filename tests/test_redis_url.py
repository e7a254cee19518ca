"""One URL means the same to redis-py and to kombu, or is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu.connection import Connection

from queuebench.broker import transport
from queuebench.broker.own_keys import refuse_shared
from queuebench.errors import SettingsError
from queuebench.plumbing.redis_client import address, connect
from queuebench.plumbing.redis_url import parse
from queuebench.settings import load
from tests import ROOT
from tests.transport_fixtures import Server, free_port, server_binaries, until


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", ("host", 6379, 0, "", "")),
        ("redis://host/", ("host", 6379, 0, "", "")),
        ("REDIS://host:1/3", ("host", 1, 3, "", "")),
        ("redis://host?db=2", ("host", 6379, 2, "", "")),
        ("redis://host?password=p%40ss", ("host", 6379, 0, "", "p@ss")),
        ("redis://me:p%40s%23%2F%3B@host/2", ("host", 6379, 2, "me", "p@s#/;")),
        ("redis://:pass@[::1]:7/1", ("::1", 7, 1, "", "pass")),
        ("redis://me@host", ("host", 6379, 0, "me", "")),
    ],
)
def test_both_clients_read_the_same(url: str, expected: tuple[Any, ...]) -> None:
    options = connect(url).connection_pool.connection_kwargs
    read = (*(options[name] for name in ("host", "port", "db")), options.get("username") or "")
    assert (*read, options.get("password") or "") == expected
    kombu = Connection(transport.url(url))
    read = (kombu.hostname, kombu.port, int(kombu.virtual_host), kombu.userid or "")
    assert (*read, kombu.password or "") == expected


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://host?socket_timeout=5", "'socket_timeout' is not known; known are db"),
        ("redis://host?foo=1", "'foo' is not known"),
        ("redis://host/celery", "database"),
        ("redis://host/0/1", "database"),
        ("redis://host/-1", "database"),
        ("redis://host/1?db=2", "two databases"),
        ("redis://host?db=1&db=2", "twice"),
        ("redis://host?db=", "no value"),
        ("redis://host?ssl_cert_reqs=none", "needs rediss://"),
        ("rediss://host?ssl_cert_reqs=perhaps", "none, optional, required"),
        ("redis://:pa#ss@host", "escape"),
        ("redis://host#x", "%23"),
        ("redis://:pa ss@host", "spaces"),
        ("redis://", "host"),
        ("redis://host:99999", "port"),
        ("redis://host:0", "port"),
        ("redis://h..h", "no name"),
        ("redis://%00", "no name"),
        ("redis://h%20h", "no name"),
        ("redis://a,b", "no name"),
        ("rediss://host?ssl_ca_certs=/not/there", "ssl_ca_certs names a file"),
        ("rediss://host?ssl_password=x", "not known"),
        ("http://host", "redis://"),
        ("redis:host", "redis://"),
        ("unix://host/path", "socket"),
    ],
)
def test_what_they_would_not_read_alike_every_role_refuses_with_one_line(url: str, why: str) -> None:
    said = set()
    for name in ("REDIS_PUBSUB_URL", "REDIS_CELERY_URL"):
        with pytest.raises(SettingsError, match=why) as caught:
            load({name: url})
        said.add(str(caught.value).replace(name, "X"))
    assert len(said) == 1 and "\n" not in said.pop()
    with pytest.raises(SettingsError, match=why):
        connect(url)
    with pytest.raises(SettingsError, match=why):
        transport.url(url)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("redis://localhost", "redis://127.0.0.1:6379/0", True),
        ("redis://:a@HOST/1", "rediss://host?db=1", True),
        ("redis://host/1", "redis://host/2", False),
        ("unix:///run/redis", "redis+socket:///run/redis?virtual_host=0", True),
    ],
)
def test_two_urls_of_one_database_name_one_place(one: str, other: str, same: bool) -> None:
    assert (parse(one).place() == parse(other).place()) is same


def speaks(url: str) -> None:
    """Have both clients use the URL, and find the same database."""
    client = connect(url)
    client.set("seen", url)
    assert "s3cret" not in address(client)
    with Connection(transport.url(url)) as kombu:
        assert kombu.default_channel.client.get("seen") == url.encode()
    client.close()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(server_binaries()[0], tmp_path_factory.mktemp("redis"))
    server.start()
    server.client.execute_command("ACL SETUSER me on >s3cret#/@:;% ~* &* +@all")
    server.client.config_set("requirepass", "s3cret&?=+ ü")
    yield server
    server.kill()


def test_users_and_passwords_with_any_characters_are_let_in(own: Server) -> None:
    speaks(f"redis://me:s3cret%23%2F%40%3A%3B%25@127.0.0.1:{own.port}/3")
    speaks(f"redis://:s3cret%26%3F%3D%2B%20%C3%BC@127.0.0.1:{own.port}/3")
    speaks(f"redis://127.0.0.1:{own.port}/3?password=s3cret%26%3F%3D%2B%20%C3%BC")


def test_a_unix_socket_is_reached_by_both(own: Server) -> None:
    path = own.folder / "socket"
    speaks(f"unix://me:s3cret%23%2F%40%3A%3B%25@{path}?db=2")
    speaks(f"redis+socket://:s3cret%26%3F%3D%2B%20%C3%BC@{path}?virtual_host=2")


def test_a_queue_among_celery_s_own_is_refused_however_its_server_is_called(own: Server) -> None:
    secret = "s3cret%26%3F%3D%2B%20%C3%BC"
    celery = f"redis://:{secret}@127.0.0.1:{own.port}/2"
    other_names = [
        f"unix://:{secret}@{own.folder / 'socket'}?db=2",
        f"redis://:{secret}@127.1:{own.port}/2",
        f"redis://[::ffff:127.0.0.1]:{own.port}?db=2&password={secret}",
    ]
    for url in other_names:
        environ = {"CHANNEL_NAME": "celery", "REDIS_PUBSUB_URL": url, "REDIS_CELERY_URL": celery}
        settings = load(environ)  # the texts do not tell
        with pytest.raises(SettingsError, match="CHANNEL_NAME='celery'"):
            refuse_shared(settings)
        refuse_shared(load(environ | {"CHANNEL_NAME": "phones"}))
        refuse_shared(load(environ | {"REDIS_CELERY_URL": celery[:-1] + "3"}))
    done = subprocess.run(
        [sys.executable, "publisher.py", "1"],
        cwd=ROOT,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "CHANNEL_NAME" in done.stderr


def test_tls_is_spoken_as_celery_writes_it_too(tmp_path: Path) -> None:
    key, certificate, port = tmp_path / "key", tmp_path / "certificate", free_port()
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    made += " -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    try:
        subprocess.run([*made.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl")
    options: dict[str, Any] = {
        "port": 0,
        "tls-port": port,
        "tls-auth-clients": "no",
        "save": "",
        "dir": tmp_path,
    }
    options |= {"tls-cert-file": certificate, "tls-key-file": key}
    command = [server_binaries()[0], *(str(part) for n, v in options.items() for part in (f"--{n}", v))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            trusting = f"rediss://127.0.0.1:{port}/1?ssl_cert_reqs="

            def answers() -> bool:
                if process.poll() is not None:
                    pytest.skip("this server has no TLS")
                try:
                    return bool(connect(trusting + "none").ping())
                except OSError:
                    return False
                except Exception as error:
                    return "refused" not in str(error) and pytest.fail(str(error))

            until(answers, "the server answers")
            for form in ("CERT_NONE", "none"):
                speaks(trusting + form)
            speaks(f"rediss://127.0.0.1:{port}/1?ssl_ca_certs={certificate}&ssl_cert_reqs=CERT_REQUIRED")
            with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
                speaks(f"rediss://127.0.0.1:{port}/1")
        finally:
            process.terminate()
