"""AWS SQS, or a server that speaks its protocol, as a queue; standard or FIFO, one queue or several."""

from __future__ import annotations

import math
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
import botocore.exceptions as errors
from botocore.config import Config

from queuebench import prices
from queuebench.errors import QueueError, Throttled, Unreachable
from queuebench.queues.base import Batch, Depth, Queue

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

LONG_POLL_SECONDS = 20.0  # the most that SQS takes
GROUPS = 1000  # FIFO message groups of one sender; one in flight locks its group
DELETE_TRIES = 5
SAFE_VISIBILITY_SECONDS = 10.0  # a hand-over to a busy broker takes up to a second or two

# What a message may not have: SendMessage in the SQS API reference.
_NO_TEXT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MISSING = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
_CREDENTIALS = (
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "ExpiredToken",
    "ExpiredTokenException",
    "MissingAuthenticationToken",
    "AuthFailure",
)
_THROTTLED = ("ThrottlingException", "Throttling", "RequestThrottled")
_LATER = (
    *_THROTTLED,
    "ServiceUnavailable",
    "OverLimit",
    "KmsThrottled",
)


class Sqs(Queue):
    """The queues `queue_names`, all read and written in parallel.

    Bounded: a call carries 10 messages of together 1 MiB, which is AWS's own limit.
    """

    batch_size = 10
    batch_bytes = 2**20
    wait_seconds = LONG_POLL_SECONDS

    def __init__(
        self,
        *,
        queue_names: Sequence[str],
        aws_region: str,
        aws_endpoint_url_sqs: str,
        local_sqs: bool,
        aws_create_queues: bool,
        sqs_threads: int,
        sqs_fair: bool = False,
    ) -> None:
        self.name = ", ".join(queue_names)
        self.sends = sqs_threads
        self.receivers = max(sqs_threads, len(queue_names))
        self._names = list(queue_names)
        self._fifo = queue_names[0].endswith(".fifo")
        self._region, self._endpoint_url, self._local = aws_region, aws_endpoint_url_sqs, local_sqs
        self._fair = sqs_fair
        self._create = aws_create_queues or local_sqs
        self._id = uuid.uuid4().hex
        self._lock, self._checking = threading.Lock(), threading.Lock()
        self._urls: list[str] = []
        self._visibility_seconds = 30.0
        self._message_bytes = self.batch_bytes
        self._requests: Counter[str] = Counter()
        self._made: SQSClient | None = None

    def check(self) -> None:
        with self._checking:
            if self._urls:
                return
            urls = []
            for name in self._names:
                with self._explained(name):
                    urls.append(self._find_or_create(name))
            seconds: dict[str, float] = {}
            sizes = [self._message_bytes]
            for name, url in zip(self._names, urls, strict=True):
                with self._explained(name):
                    answer = self._client.get_queue_attributes(
                        QueueUrl=url, AttributeNames=["VisibilityTimeout", "MaximumMessageSize"]
                    )
                seconds[name] = float(answer["Attributes"]["VisibilityTimeout"])
                sizes.append(int(answer["Attributes"].get("MaximumMessageSize", self._message_bytes)))
            self._message_bytes = min(sizes)
            shortest = min(seconds, key=seconds.__getitem__)
            self._visibility_seconds = seconds[shortest]
            if not self._visibility_seconds:
                raise QueueError(
                    f"the SQS queue {shortest!r} has a visibility timeout of 0 s: every message would be "
                    "received again and again while it is handed over; set it to 30 s or more"
                )
            if self._visibility_seconds < SAFE_VISIBILITY_SECONDS:
                self.warning = (
                    f"the SQS queue {shortest!r} has a visibility timeout of "
                    f"{self._visibility_seconds:g} s: messages that are still being handed over are received "
                    "again, and shipped twice; set it to 30 s or more"
                )
            self._urls = urls

    def refuses(self, body: bytes) -> str:
        if len(body) > self._message_bytes:
            return f"it has {len(body):,} bytes, and {self.name} takes {self._message_bytes:,}"
        try:
            found = _NO_TEXT.search(body.decode())
        except UnicodeDecodeError:
            return "it is not UTF-8, and SQS takes nothing else"
        return f"it has the character {found[0]!a}, which SQS does not take" if found else ""

    def publish(
        self, bodies: Sequence[bytes], lane: int, batch: int, tenants: Sequence[str] = ()
    ) -> Sequence[int]:
        entries: list[dict[str, Any]] = []
        for position, body in enumerate(bodies):
            entry: dict[str, Any] = {"Id": str(position), "MessageBody": body.decode()}
            if self._fifo:
                number = batch * self.batch_size + position
                entry["MessageDeduplicationId"] = f"{self._id}-{lane}-{number}"
                entry["MessageGroupId"] = (tenants and tenants[position]) or f"{lane}-{number % GROUPS}"
            elif self._fair and tenants and tenants[position]:
                entry["MessageGroupId"] = tenants[position]
            entries.append(entry)
        self._bill("SendMessageBatch", sum(map(len, bodies)))
        with self._explained(self.name):
            answer = self._client.send_message_batch(QueueUrl=self._url(lane + batch), Entries=entries)  # type: ignore[arg-type]
        failed = answer.get("Failed", [])
        for failure in failed:
            if failure["SenderFault"] and failure["Code"] not in _LATER:
                raise QueueError(f"SQS refuses a message: {failure['Code']}: {failure.get('Message', '')}")
        return [int(failure["Id"]) for failure in failed]

    def receive(self, lane: int, wait_seconds: float) -> Batch | None:
        url = self._url(lane)
        deadline = time.monotonic() + self._visibility_seconds
        self._bill("ReceiveMessage", 0)
        with self._explained(self.name):
            answer = self._client.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=self.batch_size,
                WaitTimeSeconds=math.ceil(min(LONG_POLL_SECONDS, max(0.0, wait_seconds))),
            )
        messages = answer.get("Messages", [])
        bodies = [message["Body"].encode("utf-8", "surrogatepass") for message in messages]
        if not messages:
            self._bill("empty_receives", 0)
            return None
        if (more := sum(map(len, bodies)) - prices.SQS_BILLED_BYTES) > 0:
            self._bill("ReceiveMessage", more)
        ids = [message["MessageId"] for message in messages]
        return Batch(bodies, ids, (url, [message["ReceiptHandle"] for message in messages]), deadline)

    def acknowledge(self, batch: Batch) -> None:
        url, handles = batch.receipt
        for _ in range(DELETE_TRIES):
            entries = [
                {"Id": str(position), "ReceiptHandle": handle} for position, handle in enumerate(handles)
            ]
            self._bill("DeleteMessageBatch", 0)
            with self._explained(self.name):
                answer = self._client.delete_message_batch(QueueUrl=url, Entries=entries)  # type: ignore[arg-type]
            # A handle that has expired cannot delete any more: the message comes again.
            handles = [handles[int(bad["Id"])] for bad in answer.get("Failed", []) if not bad["SenderFault"]]
            if not handles:
                return
        raise Unreachable(f"SQS fails to delete {len(handles)} messages of a batch")

    def depth(self) -> Depth:
        waiting = in_flight = 0
        for number in range(len(self._names)):
            self._bill("GetQueueAttributes", 0)
            with self._explained(self.name):
                answer = self._client.get_queue_attributes(
                    QueueUrl=self._url(number),
                    AttributeNames=[
                        "ApproximateNumberOfMessages",
                        "ApproximateNumberOfMessagesNotVisible",
                        "ApproximateNumberOfMessagesDelayed",
                    ],
                )
            counts = answer["Attributes"]
            waiting += int(counts["ApproximateNumberOfMessages"])
            waiting += int(counts["ApproximateNumberOfMessagesDelayed"])
            in_flight += int(counts["ApproximateNumberOfMessagesNotVisible"])
        return Depth(waiting, in_flight)

    def close(self) -> None:
        if self._made is not None:
            self._made.close()

    def requests(self) -> Mapping[str, int]:
        with self._lock:
            return dict(self._requests)

    @property
    def _client(self) -> SQSClient:
        if self._made is None:
            self._made = self._connect()
        return self._made

    def _connect(self) -> SQSClient:
        # Nothing is repeated in silence: whoever calls decides, and counts.
        config = Config(
            retries={"total_max_attempts": 1},
            max_pool_connections=self.sends + self.receivers + 4,
            connect_timeout=5,
            read_timeout=LONG_POLL_SECONDS + 10,
            # A seventh of a call: checking what is made here, and describing Python and Linux each time.
            parameter_validation=False,
            user_agent="queuebench",
            # A local SQS is reached directly; None: as the environment says.
            proxies={} if self._local else None,
        )
        if self._local:
            # Real credentials have no business at a server that is not AWS.
            return boto3.client(
                "sqs",
                endpoint_url=self._endpoint_url,
                region_name=self._region or "us-east-1",
                aws_access_key_id="local",
                aws_secret_access_key="local",
                config=config,
            )
        return boto3.client(
            "sqs",
            endpoint_url=self._endpoint_url or None,
            region_name=self._region or None,
            config=config,
        )

    def _url(self, number: int) -> str:
        if not self._urls:
            self.check()
        return self._urls[number % len(self._urls)]

    def _find_or_create(self, name: str) -> str:
        try:
            return self._client.get_queue_url(QueueName=name)["QueueUrl"]
        except errors.ClientError as error:
            if error.response["Error"]["Code"] not in _MISSING or not self._create:
                raise
        attributes: dict[Any, str] = {"FifoQueue": "true"} if self._fifo else {}
        return self._client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    def _bill(self, action: str, payload_bytes: int) -> None:
        """Count a call, of more than one billed request where the payload is large."""
        with self._lock:
            self._requests[action] += prices.sqs_billed_requests(payload_bytes)

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        where = f"local SQS at {self._endpoint_url}" if self._local else "AWS SQS"
        try:
            yield
        except errors.ClientError as error:
            code, text = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
            status = error.response["ResponseMetadata"].get("HTTPStatusCode", 400)
            if code in _MISSING:
                raise QueueError(
                    f"{where} has no queue {name!r}: create it, set QUEUE_NAME to one that is there, "
                    "or set AWS_CREATE_QUEUES=1"
                ) from error
            if code in _CREDENTIALS:
                raise QueueError(f"{where} refuses the AWS credentials: {code}") from error
            if code.startswith("AccessDenied"):
                raise QueueError(f"{where}: the AWS credentials lack a permission: {text}") from error
            if code in _THROTTLED:
                self._bill("throttled", 0)
                raise Throttled(f"{where} answered {code}") from error
            if status >= 500 or code in _LATER:
                raise Unreachable(f"{where} answered {code}") from error
            raise QueueError(f"{where} refused: {code}: {text}") from error
        except (
            errors.NoCredentialsError,
            errors.PartialCredentialsError,
            errors.CredentialRetrievalError,
        ) as error:
            raise QueueError(
                "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "or AWS_ENDPOINT_URL_SQS for a local SQS"
            ) from error
        except errors.NoRegionError as error:
            raise QueueError("no AWS region: set AWS_REGION") from error
        except (errors.HTTPClientError, errors.ConnectionError) as error:
            raise Unreachable(f"{where} does not answer: {type(error).__name__}") from error
        except errors.BotoCoreError as error:
            raise QueueError(f"{where}: {error}") from error
