"""`queuebench_sqs`, a pytest fixture: one local SQS a session, a queue of its own for each test.

pytest loads this module into every run where the package is installed: it imports nothing until it is used,
and it is not in `queuebench.local_sqs`, whose modules need the extra `sqs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

_OPTIONS = "queuebench_sqs_options"
_START_SECONDS = 60
# Appended to the path, so that neither the tests' folder nor this package's hides a module of the server's.
_SERVE = (
    "import sys; sys.path.append(sys.argv.pop(1)); from queuebench.__main__ import main; sys.exit(main())"
)


@dataclass
class LocalSqs:
    """A running local SQS as a test sees it."""

    url: str  # of the server, without a slash at its end
    region: str
    made: list[str] = field(default_factory=list)
    _queue_url: str | None = None

    @property
    def client_settings(self) -> dict[str, str]:
        """Arguments of `boto3.client("sqs", **…)`, `boto3.resource` and the like."""
        return {
            "endpoint_url": self.url,
            "region_name": self.region,
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
        }

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for code that makes its own client: `monkeypatch.setenv(name, value)`."""
        return {
            "AWS_ENDPOINT_URL_SQS": self.url,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    @property
    def queue_url(self) -> str:
        """The URL of this test's own standard queue, made when it is first asked for."""
        if self._queue_url is None:
            self._queue_url = self.new_queue()
        return self._queue_url

    def new_queue(self, *, fifo: bool = False, **attributes: object) -> str:
        """Make another queue, gone after the test, and return its URL: `new_queue(VisibilityTimeout=1)`.

        Raises:
            ValueError: the server refuses an attribute.
        """
        import uuid

        name = f"test-{uuid.uuid4().hex}"
        values = {key: _text(value) for key, value in attributes.items()}
        if fifo:
            name, values = f"{name}.fifo", {"FifoQueue": "true"} | values
        url: str = self._call("CreateQueue", {"QueueName": name, "Attributes": values})["QueueUrl"]
        self.made.append(url)
        return url

    def close(self) -> None:
        """Delete the queues of this test, whose name nobody else uses."""
        for url in self.made:
            try:
                self._call("DeleteQueue", {"QueueUrl": url})
            except ValueError:
                continue  # the test deleted it

    def _call(self, action: str, parameters: dict[str, Any]) -> dict[str, Any]:
        # http.client uses no proxy, whatever the environment says, and nobody has to have boto3
        import http.client
        import json

        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=_START_SECONDS)
        try:
            headers = {"X-Amz-Target": f"AmazonSQS.{action}", "Content-Type": "application/x-amz-json-1.0"}
            connection.request("POST", "/", json.dumps(parameters), headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        value: dict[str, Any] = json.loads(body) if body else {}
        if answer.status != 200:
            raise ValueError(f"{action}: {value.get('message', body)}")
        return value


def _text(value: object) -> str:
    """Return an attribute as SQS takes it."""
    if isinstance(value, dict):
        import json

        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option."""
    parser.addini(
        _OPTIONS,
        "options of the local SQS that the fixture queuebench_sqs starts: queuebench sqs --help",
        type="args",
        default=["--latency", "0"],
    )


@pytest.fixture(scope="session")
def _queuebench_sqs_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalSqs]:
    """Run one server for the session."""
    import argparse
    import re
    import select
    import subprocess
    import sys
    from pathlib import Path

    options = request.config.getini(_OPTIONS)
    asked = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    asked.add_argument("--region", default="us-east-1")
    errors = tmp_path_factory.mktemp("queuebench-sqs") / "stderr"
    root = Path(__file__).resolve().parents[1]
    argv = [sys.executable, "-P", "-c", _SERVE, str(root), "sqs", "--port", "0", *options]
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr) as process,
    ):
        assert process.stdout is not None
        try:
            ready = select.select([process.stdout], [], [], _START_SECONDS)[0]
            line = process.stdout.readline().decode() if ready else ""
            found = re.search(r"http://\S+:\d+", line)
            if found is None:
                process.kill()
                process.wait()
                said = (
                    errors.read_text(encoding="utf-8", errors="replace").strip()
                    or f"no word within {_START_SECONDS} s"
                )
                pytest.fail(f"queuebench_sqs: the local SQS did not start: {said}", pytrace=False)
            yield LocalSqs(found[0], asked.parse_known_args(options)[0].region)
        finally:
            # nothing is kept, so nothing is to be ended with care
            process.kill()


@pytest.fixture
def queuebench_sqs(_queuebench_sqs_server: LocalSqs) -> Iterator[LocalSqs]:
    """A local SQS that behaves like AWS's, with queues for this test alone."""
    server = LocalSqs(_queuebench_sqs_server.url, _queuebench_sqs_server.region)
    try:
        yield server
    finally:
        server.close()
