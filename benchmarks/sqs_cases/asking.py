"""How a server is asked, and what a case is."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


class Asked:
    """A server that is asked, by boto3."""

    def __init__(self, url: str) -> None:
        self.client: Any = boto3.client(
            "sqs",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=30),
        )

    def queue(self, **attributes: object) -> str:
        """Make a queue; with FifoQueue, a FIFO queue."""
        name = f"case-{uuid.uuid4().hex}" + (".fifo" if "FifoQueue" in attributes else "")
        values = {key: str(value) for key, value in attributes.items()}
        return str(self.client.create_queue(QueueName=name, Attributes=values)["QueueUrl"])

    def send(self, url: str, body: str = "x", **more: Any) -> Any:
        """Send a message."""
        return self.client.send_message(QueueUrl=url, MessageBody=body, **more)

    def receive(self, url: str, most: int = 10, **more: Any) -> list[Any]:
        """Receive messages."""
        reply = self.client.receive_message(QueueUrl=url, MaxNumberOfMessages=most, **more)
        return list(reply.get("Messages", []))

    def bodies(self, url: str, most: int = 10, **more: Any) -> list[str]:
        """Receive messages, and return what is in them."""
        return [message["Body"] for message in self.receive(url, most, **more)]

    def attribute(self, url: str, name: str) -> str | None:
        """Return one attribute of a queue."""
        reply = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        value: str | None = reply.get("Attributes", {}).get(name)
        return value

    def show(self, url: str, message: Any, seconds: int) -> None:
        """Change a message's visibility timeout."""
        self.client.change_message_visibility(
            QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds
        )

    def delete(self, url: str, message: Any) -> None:
        """Delete a message."""
        self.client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


@dataclass(frozen=True)
class Case:
    """What has to hold, and why."""

    name: str
    # where botocore's service model has it: operation, or shape and member
    place: str
    sentence: str
    holds: Callable[[Asked], None]


CASES: list[Case] = []


def case(place: str, sentence: str) -> Callable[[Callable[[Asked], None]], Callable[[Asked], None]]:
    """Add a case."""

    def add(holds: Callable[[Asked], None]) -> Callable[[Asked], None]:
        CASES.append(Case(holds.__name__.replace("_", " "), place, sentence, holds))
        return holds

    return add


def refused(call: Callable[..., Any], *codes: str, **arguments: Any) -> None:
    """See that a call is refused, with one of these codes if any are given."""
    try:
        call(**arguments)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert status < 500, f"refused with {status}"
        code = error.response["Error"]["Code"]
        assert not codes or any(wanted in code for wanted in codes), f"refused with {code}"
        return
    raise AssertionError("was not refused")


FIFO: dict[str, object] = {"FifoQueue": "true"}
BY_CONTENT = {**FIFO, "ContentBasedDeduplication": "true"}
