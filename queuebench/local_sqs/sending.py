"""SendMessage and SendMessageBatch."""

from collections.abc import Callable
from hashlib import md5, sha256

from queuebench.local_sqs.batches import each
from queuebench.local_sqs.call import Action, Call, queue_of
from queuebench.local_sqs.engine import Engine
from queuebench.local_sqs.errors import SqsError, invalid_parameter, invalid_value, missing_parameter
from queuebench.local_sqs.faults import Faults
from queuebench.local_sqs.fifo import FifoQueue
from queuebench.local_sqs.message import Message
from queuebench.local_sqs.queue import Queue
from queuebench.local_sqs.validation import (
    MAX_BATCH_BYTES,
    Json,
    attributes_bytes,
    attributes_md5,
    batch,
    check_characters,
    message_attributes,
    optional,
    required,
    token,
)

MAX_DELAY_SECONDS = 900
_NO_DEDUPLICATION_ID = (
    "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided "
    "explicitly"
)


class Sending:
    """The actions that send, into the queues of one engine."""

    def __init__(self, engine: Engine, faults: Faults, new_id: Callable[[], str]) -> None:
        self._engine = engine
        self._faults = faults
        self._new_id = new_id
        self.actions: dict[str, Action] = {
            "SendMessage": self._send_message,
            "SendMessageBatch": self._send_message_batch,
        }

    def _send_message(self, request: Json, call: Call) -> Json:
        queue = queue_of(self._engine, request, call, "send")
        message, size = self._message(queue, request, call)
        call.payload_bytes = size
        return self._send(queue, message, request, call)

    def _send_message_batch(self, request: Json, call: Call) -> Json:
        queue = queue_of(self._engine, request, call, "send")
        entries = batch(request, "SendMessageBatch")
        total = sum(
            len(required(entry, "MessageBody", str).encode()) + _raw_attributes_bytes(entry)
            for entry in entries
        )
        if total > MAX_BATCH_BYTES:
            raise SqsError(
                "BatchRequestTooLong",
                f"Batch requests cannot be longer than {MAX_BATCH_BYTES} bytes. You have sent {total} bytes.",
            )
        call.payload_bytes = total
        if queue.is_fifo and any(optional(entry, "MessageGroupId", str) is None for entry in entries):
            # the whole request fails, and with another code than a single message's
            raise invalid_parameter("The request must contain the parameter MessageGroupId.")
        if (
            isinstance(queue, FifoQueue)
            and not queue.content_based_deduplication
            and any(optional(entry, "MessageDeduplicationId", str) is None for entry in entries)
        ):
            raise invalid_parameter(_NO_DEDUPLICATION_ID)

        def send(entry: Json) -> Json:
            message, _ = self._message(queue, entry, call)
            return self._send(queue, message, entry, call)

        return each(entries, send, self._faults)

    def _message(self, queue: Queue, request: Json, call: Call) -> tuple[Message, int]:
        """Make a message of a request or a batch's entry; return it and its size in bytes."""
        body = required(request, "MessageBody", str)
        if not body:
            raise missing_parameter("MessageBody")
        size = len(body.encode())
        extras: Json = {}
        if attributes := message_attributes(request):
            extras["attributes"] = attributes
            size += attributes_bytes(attributes)
        if system := message_attributes(request, "MessageSystemAttributes"):
            extras["system"] = system
            for name, value in system.items():
                if name != "AWSTraceHeader":
                    raise invalid_parameter(f"Message system attribute name '{name}' is invalid.")
                if value["DataType"] != "String":
                    raise invalid_parameter(
                        f"The type of message (system) attribute '{name}' is invalid. You must use only the "
                        "following supported type prefixes: String."
                    )
        elif call.trace:
            # known to whoever receives it, but no attribute that was sent: it is in no size and no MD5
            extras["trace"] = call.trace
        if size > queue.maximum_message_size:
            raise invalid_parameter(
                "One or more parameters are invalid. Reason: Message must be shorter than "
                f"{queue.maximum_message_size} bytes."
            )
        check_characters(body)
        group = token(request, "MessageGroupId")
        dedup_id = token(request, "MessageDeduplicationId")
        if isinstance(queue, FifoQueue):
            if group is None:
                raise missing_parameter("MessageGroupId")
            if dedup_id is None:
                if not queue.content_based_deduplication:
                    raise invalid_parameter(_NO_DEDUPLICATION_ID)
                dedup_id = sha256(body.encode()).hexdigest()
        elif dedup_id is not None:
            raise invalid_value(
                dedup_id,
                "MessageDeduplicationId",
                "The request include parameter that is not valid for this queue type.",
            )
        message = Message(
            self._new_id(), body, sent_at=call.now, group=group, dedup_id=dedup_id, extras=extras or None
        )
        return message, size

    def _send(self, queue: Queue, message: Message, request: Json, call: Call) -> Json:
        delay = optional(request, "DelaySeconds", int)
        if delay is not None:
            if not 0 <= delay <= MAX_DELAY_SECONDS:
                raise invalid_value(
                    delay, "DelaySeconds", f"DelaySeconds must be >= 0 and <= {MAX_DELAY_SECONDS}."
                )
            if queue.is_fifo:
                if delay:
                    raise invalid_value(
                        delay,
                        "DelaySeconds",
                        "The request include parameter that is not valid for this queue type.",
                    )
                delay = None
        sent = self._engine.send(queue, message, call.now, delay)
        reply = {
            "MessageId": sent.id,
            "MD5OfMessageBody": md5(sent.body.encode(), usedforsecurity=False).hexdigest(),
        }
        if sent.extras:
            if "attributes" in sent.extras:
                reply["MD5OfMessageAttributes"] = attributes_md5(sent.extras["attributes"])
            if "system" in sent.extras:
                reply["MD5OfMessageSystemAttributes"] = attributes_md5(sent.extras["system"])
        if queue.is_fifo:
            reply["SequenceNumber"] = sent.sequence_number
        return reply


def _raw_attributes_bytes(entry: Json) -> int:
    """Return the size of a batch entry's attributes, 0 where they are not usable: that fails the entry."""
    if not entry.get("MessageAttributes"):
        return 0
    try:
        return attributes_bytes(message_attributes(entry))
    except SqsError:
        return 0
