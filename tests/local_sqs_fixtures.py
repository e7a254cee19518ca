"""The local SQS as a process, and clients of it, for the tests."""

import re
import resource
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class LocalSqs:
    """A local SQS as a process of its own."""

    def __init__(self, *options: str, max_file_bytes: int | None = None) -> None:
        def limit_files() -> None:
            if max_file_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))

        self.process = subprocess.Popen(
            [sys.executable, "-m", "queuebench", "sqs", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit_files,
        )
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], 300)[0]:
            self.process.kill()
        self.first_line = self.process.stdout.readline()
        found = re.search(r"http://(\S+):(\d+)", self.first_line)
        if found is None:
            pytest.fail(f"the local SQS did not start: {self.process.communicate()}")
        self.url, self.host, self.port = found[0], found[1], int(found[2])

    def stop(self, signum: int = signal.SIGTERM) -> tuple[int, str, str]:
        """End it and return exit code, output and errors."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            out, err = self.process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, out, err


@contextmanager
def running(*options: str, max_file_bytes: int | None = None) -> Iterator[LocalSqs]:
    """Run a local SQS with these options, without latency unless they say so."""
    if "--latency" not in options:
        options += ("--latency", "0")
    server = LocalSqs(*options, max_file_bytes=max_file_bytes)
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)


def client_of(url: str, retries: int = 0) -> "SQSClient":
    """Make a boto3 client of a server, which by default does not repeat what fails."""
    return boto3.client(
        "sqs",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": retries + 1}, read_timeout=30),
    )


class Sqs:
    """A client, and fresh queues in its server."""

    def __init__(self, client: "SQSClient") -> None:
        self.client = client

    def queue(self, name: str | None = None, **attributes: object) -> str:
        """Create a queue and return its URL."""
        values = {key: str(value) for key, value in attributes.items()}
        return self.client.create_queue(QueueName=name or fresh_name(), Attributes=values)["QueueUrl"]  # type: ignore[arg-type]

    def fifo(self, **attributes: object) -> str:
        """Create a FIFO queue and return its URL."""
        return self.queue(fresh_name() + ".fifo", FifoQueue="true", **attributes)

    def arn(self, url: str) -> str:
        """Return a queue's ARN."""
        return self.attribute(url, "QueueArn")

    def attribute(self, url: str, name: Any) -> str:
        """Return one attribute of a queue."""
        return self.client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name]

    def send(self, url: str, *bodies: str, **more: Any) -> list[Any]:
        """Send messages one by one."""
        return [self.client.send_message(QueueUrl=url, MessageBody=body, **more) for body in bodies]

    def send_fifo(self, url: str, group: str, *bodies: str) -> list[Any]:
        """Send messages of one group one by one, none of them a duplicate."""
        return [
            self.client.send_message(
                QueueUrl=url, MessageBody=body, MessageGroupId=group, MessageDeduplicationId=uuid.uuid4().hex
            )
            for body in bodies
        ]

    def receive(self, url: str, limit: int = 10, wait: int = 0, **more: Any) -> list[Any]:
        """Receive up to `limit` messages."""
        reply = self.client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=limit, WaitTimeSeconds=wait, **more
        )
        return reply.get("Messages", [])

    def bodies(self, url: str, limit: int = 10, wait: int = 0, **more: Any) -> list[str]:
        """Receive up to `limit` messages and return their bodies."""
        return [message["Body"] for message in self.receive(url, limit, wait, **more)]

    def delete(self, url: str, message: Any) -> None:
        """Delete a received message."""
        self.client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def fresh_name() -> str:
    """Return a queue name that nobody has used."""
    return f"q-{uuid.uuid4().hex}"


def error_of(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    """Return code and message of the error that a call ends in."""
    with pytest.raises(Exception) as caught:
        call(**arguments)
    error = getattr(caught.value, "response", {}).get("Error")
    assert error is not None, caught.value
    return error["Code"], error["Message"]


@pytest.fixture(scope="session")
def local_server() -> Iterator[LocalSqs]:
    """One local SQS for many tests."""
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def local(local_server: LocalSqs) -> Sqs:
    """Yield a client of the local SQS."""
    return Sqs(client_of(local_server.url))
