"""ReceiveMessage, and the actions that take a receipt handle."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import md5
from typing import Any

from queuebench.local_sqs.batches import each
from queuebench.local_sqs.call import Action, Call, queue_of
from queuebench.local_sqs.engine import Engine
from queuebench.local_sqs.errors import SqsError, invalid_value
from queuebench.local_sqs.faults import Faults
from queuebench.local_sqs.message import Message
from queuebench.local_sqs.queue import MAX_VISIBILITY_SECONDS, Queue
from queuebench.local_sqs.validation import (
    Json,
    attribute_filter,
    attributes_bytes,
    attributes_md5,
    batch,
    number_in,
    required,
    strings,
    token,
)

SENDER_ID = "AIDALOCALSQSLOCALSQS0"
MAX_WAIT_SECONDS = 20


@dataclass(frozen=True, slots=True)
class ReceiveRequest:
    """A receive, checked, so that a long poll can repeat it."""

    queue: Queue
    limit: int
    visibility_timeout: int
    wait_seconds: int
    attempt_id: str | None
    system_attributes: frozenset[str]
    wants: Callable[[str], bool] | None


class Receiving:
    """Receiving, deleting and changing visibility, of the queues of one engine."""

    def __init__(self, engine: Engine, faults: Faults) -> None:
        self._engine = engine
        self._faults = faults
        self.actions: dict[str, Action] = {
            "ChangeMessageVisibility": self._change_message_visibility,
            "ChangeMessageVisibilityBatch": self._change_message_visibility_batch,
            "DeleteMessage": self._delete_message,
            "DeleteMessageBatch": self._delete_message_batch,
        }

    def request(self, request: Json, call: Call) -> ReceiveRequest:
        """Check a ReceiveMessage request.

        Raises:
            SqsError: what the client is to see instead.
        """
        queue = queue_of(self._engine, request, call, "receive")
        limit = number_in(request, "MaxNumberOfMessages", 1, 10, 1, "Must be between 1 and 10, if provided.")
        wait_seconds = number_in(
            request,
            "WaitTimeSeconds",
            0,
            MAX_WAIT_SECONDS,
            queue.wait_seconds,
            f"Must be >= 0 and <= {MAX_WAIT_SECONDS}, if provided.",
        )
        visibility_timeout = number_in(
            request,
            "VisibilityTimeout",
            0,
            MAX_VISIBILITY_SECONDS,
            queue.visibility_timeout,
            f"Must be between 0 and {MAX_VISIBILITY_SECONDS}, if provided.",
        )
        attempt_id = token(request, "ReceiveRequestAttemptId")
        if attempt_id is not None and not queue.is_fifo:
            raise invalid_value(
                attempt_id,
                "ReceiveRequestAttemptId",
                "The request include parameter that is not valid for this queue type.",
            )
        system = strings(request, "AttributeNames") + strings(request, "MessageSystemAttributeNames")
        wants = attribute_filter(strings(request, "MessageAttributeNames"))
        return ReceiveRequest(
            queue, limit, visibility_timeout, wait_seconds, attempt_id, frozenset(system), wants
        )

    def receive(self, request: ReceiveRequest, call: Call) -> Json:
        """Receive what there is now; the reply is empty where there is nothing.

        Raises:
            SqsError: the queue is gone, or too much is in flight.
        """
        queue = request.queue
        messages = self._engine.receive(
            queue,
            request.limit,
            request.visibility_timeout,
            call.now,
            attempt_id=request.attempt_id,
            is_duplicated=self._faults.duplicates if self._faults.duplicate_deliveries else None,
        )
        if not messages:
            # with long polling, and on FIFO queues, AWS gives no error:
            # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
            full = queue.in_flight >= queue.limits.in_flight
            if full and not queue.is_fifo and not request.wait_seconds:
                raise SqsError("OverLimit", "Too many messages are in flight in the queue.")
            return {}
        return {"Messages": [self._received(message, request, call) for message in messages]}

    def _received(self, message: Message, request: ReceiveRequest, call: Call) -> Json:
        body = message.body.encode()
        call.payload_bytes += len(body)
        reply: Json = {
            "MessageId": message.id,
            "ReceiptHandle": request.queue.receipt_handle(message),
            "MD5OfBody": md5(body, usedforsecurity=False).hexdigest(),
            "Body": message.body,
        }
        if request.system_attributes:
            known = self._system_attributes(message, request.queue)
            if "All" not in request.system_attributes:
                known = {name: value for name, value in known.items() if name in request.system_attributes}
            if known:
                reply["Attributes"] = known
        if request.wants is not None and message.extras and "attributes" in message.extras:
            every = message.extras["attributes"]
            wanted = {name: value for name, value in every.items() if request.wants(name)}
            if wanted:
                reply["MessageAttributes"] = wanted
                reply["MD5OfMessageAttributes"] = attributes_md5(wanted)
                call.payload_bytes += attributes_bytes(wanted)
        return reply

    @staticmethod
    def _system_attributes(message: Message, queue: Queue) -> Json:
        first = message.first_received_at
        known: dict[str, Any] = {
            "SenderId": SENDER_ID,
            "SentTimestamp": str(int(message.sent_at * 1000)),
            "ApproximateReceiveCount": str(message.receive_count),
            "ApproximateFirstReceiveTimestamp": str(int((first or 0) * 1000)),
        }
        if message.group is not None:
            known["MessageGroupId"] = message.group
        if queue.is_fifo:
            known["SequenceNumber"] = message.sequence_number
            if message.dedup_id is not None:
                known["MessageDeduplicationId"] = message.dedup_id
        if message.extras:
            if "system" in message.extras:
                known["AWSTraceHeader"] = message.extras["system"]["AWSTraceHeader"].get("StringValue", "")
            elif "trace" in message.extras:
                known["AWSTraceHeader"] = message.extras["trace"]
            if "source" in message.extras:
                known["DeadLetterQueueSourceArn"] = message.extras["source"]
        return known

    # Receipt handles

    def _delete_message(self, request: Json, call: Call) -> Json:
        queue = queue_of(self._engine, request, call, "delete")
        self._engine.delete(queue, required(request, "ReceiptHandle", str), call.now)
        return {}

    def _delete_message_batch(self, request: Json, call: Call) -> Json:
        queue = queue_of(self._engine, request, call, "delete")

        def delete(entry: Json) -> Json:
            self._engine.delete(queue, required(entry, "ReceiptHandle", str), call.now)
            return {}

        return each(batch(request, "DeleteMessageBatch"), delete, self._faults)

    def _change_message_visibility(self, request: Json, call: Call) -> Json:
        queue = queue_of(self._engine, request, call, "change")
        self._change_visibility(queue, request, call)
        return {}

    def _change_message_visibility_batch(self, request: Json, call: Call) -> Json:
        queue = queue_of(self._engine, request, call, "change")
        entries = batch(request, "ChangeMessageVisibilityBatch")
        return each(entries, lambda entry: self._change_visibility(queue, entry, call), self._faults)

    def _change_visibility(self, queue: Queue, request: Json, call: Call) -> Json:
        handle = required(request, "ReceiptHandle", str)
        timeout = required(request, "VisibilityTimeout", int)
        if not 0 <= timeout <= MAX_VISIBILITY_SECONDS:
            raise invalid_value(
                timeout, "VisibilityTimeout", f"Must be between 0 and {MAX_VISIBILITY_SECONDS}, if provided."
            )
        self._engine.change_visibility(queue, handle, timeout, call.now)
        return {}
