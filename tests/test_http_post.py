"""One POST, against a real server whose every byte is scripted."""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from queuebench.errors import QueueBenchError
from queuebench.plumbing.http_post import NoConnectionError, Poster, PostError, TlsError
from tests import ROOT
from tests.scripted_endpoint import OK, Scripted, says, status

pytestmark = pytest.mark.slow

INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def statuses(server: Scripted, posts: int, seconds: float = 20.0) -> list[int]:
    poster = Poster(server.url, seconds)
    return [poster.post(b"{}", f"Idempotency-Key: {number}\r\n").status for number in range(posts)]


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n",
        INTERIM,
        INTERIM * 5 + b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 199 \r\n\r\n",
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_an_interim_answer_is_none_and_answers_stay_with_their_requests(interim: bytes, late: bool) -> None:
    def answer(line: socket.socket, number: int) -> None:
        line.sendall(interim)
        if late:
            time.sleep(0.15)
        line.sendall(status((200, 422, 204)[number]))

    with Scripted(answer) as server:
        assert statuses(server, 3) == [200, 422, 204]
        assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40000,
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    ],
)
def test_a_connection_whose_answer_was_read_to_its_end_is_used_again(answer: bytes) -> None:
    with Scripted(says(answer)) as server:
        assert all(200 <= got < 300 for got in statuses(server, 5))
        assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"x",
        OK + OK,
        OK + b"\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 500 No\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_a_connection_with_more_or_less_than_the_answer_is_never_used_again(answer: bytes) -> None:
    with Scripted(says(answer)) as server:
        assert statuses(server, 3) == [200, 200, 200]
        assert server.connections == 3


def test_an_answer_nobody_asked_for_is_no_answer_to_what_is_sent_later() -> None:
    def answer(line: socket.socket, number: int) -> None:
        line.sendall(status(422 if number else 201))
        if not number:
            said.wait(10)
            line.sendall(OK)
            sent.set()

    said, sent = threading.Event(), threading.Event()
    with Scripted(answer) as server:
        poster = Poster(server.url, 20.0)
        assert poster.post(b"{}", "").status == 201
        said.set()
        assert sent.wait(10)
        time.sleep(0.05)
        assert poster.post(b"{}", "").status == 422


def test_a_connection_that_was_closed_while_idle_uses_up_no_post() -> None:
    def answer(line: socket.socket, number: int) -> None:
        line.sendall(OK)
        line.shutdown(socket.SHUT_RDWR)

    with Scripted(answer) as server:
        assert statuses(server, 5) == [200] * 5
        assert set(server.keys()) == {"0", "1", "2", "3", "4"}


def drip(line: socket.socket, data: bytes, ended: threading.Event) -> None:
    for byte in data:
        if ended.wait(0.05):
            return
        line.sendall(bytes([byte]))


@pytest.mark.parametrize(
    "begin",
    [b"", b"HTTP/1.1 200 OK\r\nX: ", INTERIM, b"HTTP/1.1 2"],
    ids=["nothing", "headers", "interim answers", "a status"],
)
def test_what_drips_before_the_answer_is_there_ends_with_the_time_of_the_post(begin: bytes) -> None:
    def answer(line: socket.socket, number: int) -> None:
        if begin:
            drip(line, begin + INTERIM * 100, server.ended)
        server.ended.wait(20)

    with Scripted(answer) as server:
        began = time.monotonic()
        with pytest.raises(PostError, match=r"no answer within 0\.5 s"):
            Poster(server.url, 0.5).post(b"{}", "")
        assert 0.4 < time.monotonic() - began < 10


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked", b"X: y"])
def test_a_body_that_drips_is_not_waited_for_and_its_connection_not_used_again(framing: bytes) -> None:
    def answer(line: socket.socket, number: int) -> None:
        line.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        drip(line, b"1\r\nx\r\n" * 1000, server.ended)

    with Scripted(answer) as server:
        began = time.monotonic()
        assert statuses(server, 2) == [200, 200]
        assert time.monotonic() - began < 15
        assert server.connections == 2


def endless(line: socket.socket, begin: bytes, more: bytes, ended: threading.Event) -> None:
    line.sendall(begin)
    while not ended.is_set():
        line.sendall(more)


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\n", b"x" * 65536),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n" * 9999,
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"ffffffff\r\n" + b"x" * 65536),
    ],
)
def test_a_body_without_end_is_no_matter(begin: bytes, more: bytes) -> None:
    with Scripted(lambda line, _: endless(line, begin, more, server.ended)) as server:
        poster = Poster(server.url, 20.0)
        gc.collect()
        tracemalloc.start()
        assert poster.post(b"{}", "").status == 200
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2_000_000


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 1000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536),
        (b"", INTERIM * 1000),
        (b"HTTP/1.1 200 ", b"y" * 65536),
        (b"", b"SSH-2.0-OpenSSH_9.2\r\n" * 10),
        (b"", b"\r\n" * 1000),
        (b"HTTP/2 200 OK\r\n", b"X: y\r\n"),
    ],
)
def test_headers_without_end_and_what_is_no_http_fail_at_once(begin: bytes, more: bytes) -> None:
    with (
        Scripted(lambda line, _: endless(line, begin, more, server.ended)) as server,
        pytest.raises(PostError, match=r"longer than|no HTTP"),
    ):
        Poster(server.url, 30.0).post(b"{}", "")


def test_a_server_that_reads_nothing_and_one_that_takes_no_connection_end_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(PostError, match="no answer within"):
            Poster(f"http://127.0.0.1:{port}", 0.5).post(b"x" * 30_000_000, "")
        with pytest.raises(NoConnectionError):  # nor a handshake
            Poster(f"https://127.0.0.1:{port}", 0.5).post(b"{}", "")
        assert time.monotonic() - began < 15
    with pytest.raises(NoConnectionError):
        Poster(f"http://127.0.0.1:{port}", 5).post(b"{}", "")


def test_an_answer_before_all_of_the_request_was_taken_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            line, _ = listener.accept()
            line.recv(1000)
            line.sendall(status(413))
            line.shutdown(socket.SHUT_WR)
            while line.recv(1_000_000):
                pass
            line.close()

        threading.Thread(target=refuse, daemon=True).start()
        poster = Poster(f"http://127.0.0.1:{listener.getsockname()[1]}", 20.0)
        assert poster.post(b"x" * 5_000_000, "").status == 413


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "both.pem")


def make_certificate(path: Path, name: str = "127.0.0.1", days: float = 2.0) -> Path:
    """Write a key and a self-signed certificate that runs out in so many days, or so many ago."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    try:
        host: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        host = x509.DNSName(name)
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, form, plain = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    path.write_bytes(key.private_bytes(pem, form, plain) + made.public_bytes(pem))
    return path


def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_tls_carries_answers_and_connections_as_without(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with Scripted(says(OK, INTERIM + status(422), OK + OK, OK), tls(certificate)) as server:
        Poster(server.url, 20.0).check()
        assert statuses(server, 4) == [200, 422, 200, 200]
        assert server.connections == 3
    with (
        Scripted(lambda line, _: drip(line, OK * 100, server.ended), tls(certificate)) as server,
        pytest.raises(PostError, match="no answer within"),
    ):
        Poster(server.url, 0.5).post(b"{}", "")


def test_a_certificate_that_is_not_to_be_trusted_and_a_server_without_tls_are_one_line(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Scripted(says(OK), tls(certificate)) as server:
        with pytest.raises(TlsError, match=r"certificate is not to be trusted: self.signed certificate"):
            Poster(server.url, 20.0).post(b"{}", "")
        with pytest.raises(QueueBenchError, match="TLS failed") as failed:
            Poster(server.url, 20.0).check()
        assert "\n" not in str(failed.value)
        assert not server.requests
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak_no_tls() -> None:
            line, _ = listener.accept()
            line.sendall(status(400))

        threading.Thread(target=speak_no_tls, daemon=True).start()
        with pytest.raises(TlsError, match="TLS failed with"):
            Poster(f"https://127.0.0.1:{listener.getsockname()[1]}", 20.0).post(b"{}", "")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.parent / "none.pem"))
    with pytest.raises(QueueBenchError, match="CA bundle"):
        Poster("https://example.com", 1.0)


def test_a_foreign_url_goes_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted(says(OK, status(407), OK)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:se%20cret@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        plain = Poster("http://user:word@example.test/a b?c=d", 20.0)
        assert plain.post(b"{}", "X: y\r\n").status == 200
        head = proxy.requests[0].decode()
        assert head.startswith("POST http://example.test/a%20b?c=d HTTP/1.1\r\nHost: example.test\r\n")
        assert "Proxy-Authorization: Basic bWU6c2UgY3JldA==\r\n" in head
        assert "\r\nAuthorization: Basic dXNlcjp3b3Jk\r\n" in head and "\r\nX: y\r\n" in head
        tunnelled = Poster("https://example.test/push", 20.0)
        assert tunnelled.post(b"{}", "").status == 407
        assert proxy.requests[1].startswith(b"CONNECT example.test:443 HTTP/1.1\r\n")
        for wrong in ("socks5://127.0.0.1:1", "http://127.0.0.1:99999", "http://:80", "http://host:x"):
            monkeypatch.setenv("https_proxy", wrong)
            with pytest.raises(QueueBenchError, match="proxy"):
                Poster("https://example.test/push", 20.0)


class Tunnel:
    """A proxy that makes tunnels, wherever to, to one port of this machine."""

    def __init__(self, port: int) -> None:
        self._to, self.heads = port, list[bytes]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            line, _ = self._listener.accept()
            self.heads.append(line.recv(65536))
            line.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            upstream = socket.create_connection(("127.0.0.1", self._to))
            for source, target in ((line, upstream), (upstream, line)):
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)


def test_https_goes_through_a_tunnel_and_the_endpoint_s_own_certificate_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path / "both.pem", "example.test")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with Scripted(says(OK, status(422), OK), tls(certificate)) as server:
        proxy = Tunnel(server.port)
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//me:secret@"))
        poster = Poster("https://example.test/push", 20.0)
        poster.check()
        assert [poster.post(b"{}", "").status for _ in range(3)] == [200, 422, 200]
        # The second connection is used for all three; the first was that of the check.
        assert len(proxy.heads) == 2 and proxy.heads[0].startswith(b"CONNECT example.test:443 HTTP/1.1\r\n")
        assert b"Proxy-Authorization: Basic bWU6c2VjcmV0\r\n" in proxy.heads[0]
        assert not any(b"Proxy-" in request for request in server.requests)
        with pytest.raises(TlsError, match=r"other\.test's certificate is not to be trusted"):
            Poster("https://other.test/push", 20.0).post(b"{}", "")


@pytest.mark.parametrize(
    ("name", "days", "why"),
    [("127.0.0.1", -1.0, "certificate has expired"), ("127.0.0.2", 2.0, "IP address mismatch")],
)
def test_a_certificate_that_ran_out_or_is_another_s_is_one_line_at_the_start(
    tmp_path: Path, redis_url: str, name: str, days: float, why: str
) -> None:
    certificate = make_certificate(tmp_path / "both.pem", name, days)
    with Scripted(says(OK), tls(certificate)) as server:
        environ = {
            "PUSH_URL": server.url,
            "REQUESTS_CA_BUNDLE": str(certificate),
            "REDIS_CELERY_URL": redis_url,
        }
        ended = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "task", "worker"],
            cwd=ROOT,
            env=os.environ | environ | {"PUSH_URL": server.url},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1, ended.stderr
    assert why in ended.stderr and "mend the endpoint or PUSH_URL" in ended.stderr


def test_a_name_server_that_hangs_ends_posts_in_time_and_costs_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hangs, asked, real = threading.Event(), list[str](), socket.getaddrinfo

    def look_up(host: str, *options: Any) -> Any:
        if host == "127.0.0.1" or options[-1] & socket.AI_NUMERICHOST:
            return real(host, *options)
        asked.append(host)
        hangs.wait(30)
        return real("127.0.0.1", *options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with Scripted(says(OK)) as server:
        poster = Poster(f"http://endpoint.test:{server.port}/push", 0.5)
        failures: list[Exception] = []

        def post() -> None:
            try:
                poster.post(b"{}", "")
            except NoConnectionError as error:
                failures.append(error)

        threads = [threading.Thread(target=post) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(failures) == 50 and "name server" in str(failures[0])
        assert asked == ["endpoint.test"]
        assert [thread.name for thread in threading.enumerate()].count("resolver") == 1
        hangs.set()
        assert Poster(f"http://endpoint.test:{server.port}/push", 20.0).post(b"{}", "").status == 200


def test_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Scripted(says(OK)) as server:
        assert statuses(server, 1) == [200]
        assert b"Authorization" not in server.requests[0]
