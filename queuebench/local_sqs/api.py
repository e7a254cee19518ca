"""The actions of the SQS API: a request's JSON in, the reply's JSON out."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import md5, sha256
from typing import Any

from queuebench.local_sqs import permissions
from queuebench.local_sqs.attributes import COUNTS, READABLE
from queuebench.local_sqs.engine import ACCOUNT, MAX_MOVES_PER_SECOND, Engine
from queuebench.local_sqs.errors import (
    SqsError,
    internal_error,
    invalid_parameter,
    invalid_value,
    missing_parameter,
    queue_does_not_exist,
    throttled,
    unknown_attribute,
)
from queuebench.local_sqs.faults import Faults
from queuebench.local_sqs.fifo import FifoQueue
from queuebench.local_sqs.message import Message
from queuebench.local_sqs.queue import MAX_VISIBILITY_SECONDS, Queue
from queuebench.local_sqs.validation import (
    MAX_BATCH_BYTES,
    Json,
    attribute_filter,
    attributes_bytes,
    attributes_md5,
    batch,
    check_characters,
    message_attributes,
    number_in,
    optional,
    required,
    string_map,
    strings,
    token,
)

SENDER_ID = "AIDALOCALSQSLOCALSQS0"
MAX_WAIT_SECONDS = 20
MAX_DELAY_SECONDS = 900
_MAX_PAGE = 1000
_MAX_TAGS = 50
_NO_DEDUPLICATION_ID = (
    "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided "
    "explicitly"
)
# https://docs.aws.amazon.com/general/latest/gr/sqs-service.html, and the legacy endpoints there
_REGION_OF_HOST = re.compile(r"https?://(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.")


@dataclass(slots=True)
class Call:
    """One request on its way: what the reply and the bill need to know of it.

    Args:
        now: seconds since the epoch.
        host: what the request's Host header names, for queue URLs.
        trace: the request's X-Amzn-Trace-Id, which becomes the message's where it names none itself.
    """

    now: float
    host: str
    trace: str = ""
    queue: Queue | None = None
    payload_bytes: int = 0

    @property
    def queue_name(self) -> str | None:
        """Return the name of the queue that the request is about, once it is known."""
        return None if self.queue is None else self.queue.name


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


def _name_in(url: str, region: str) -> str:
    """Return the queue's name in a QueueUrl, …/account/name.

    Raises:
        SqsError: it is no such address, or names another account or region.
    """
    account, slash, name = url.rstrip("/").rpartition("/")
    if url and not slash:
        raise SqsError("InvalidAddress", f"The address {url} is not valid for this endpoint.")
    account = account.rpartition("/")[2]
    if len(account) == 12 and account.isdecimal() and account != ACCOUNT:
        raise queue_does_not_exist()
    found = _REGION_OF_HOST.match(url)
    if found and (found[1] or found[2]) != region:
        raise queue_does_not_exist()
    return name


def _token_of(name: str, asked: str) -> str:
    return urlsafe_b64encode(f"after:{name}:{asked}".encode()).decode()


def _name_of_token(token: str, asked: str) -> str:
    """Return after which name a page begins.

    Raises:
        SqsError: no page ended with this token, or not one of what is asked for.
    """
    try:
        mark, name, was_asked = urlsafe_b64decode(token.encode()).decode().split(":")
    except ValueError:
        mark = name = was_asked = ""
    if mark != "after" or not name or _token_of(name, was_asked) != token:
        raise invalid_parameter("Invalid or expired next token.")
    if was_asked != asked:
        raise invalid_parameter(
            "Invalid NextToken value. If you are passing in NextToken, you must not change the other request "
            "parameters."
        )
    return name


class Api:
    """The actions, over one engine.

    Args:
        engine: the queues.
        faults: what goes wrong on request.
        new_id: makes a fresh UUID, as text.
    """

    def __init__(self, engine: Engine, faults: Faults, new_id: Callable[[], str]) -> None:
        self.engine = engine
        self.faults = faults
        self._new_id = new_id
        self._actions: dict[str, Callable[[Json, Call], Json]] = {
            "AddPermission": self._add_permission,
            "CancelMessageMoveTask": self._cancel_message_move_task,
            "ChangeMessageVisibility": self._change_message_visibility,
            "ChangeMessageVisibilityBatch": self._change_message_visibility_batch,
            "CreateQueue": self._create_queue,
            "DeleteMessage": self._delete_message,
            "DeleteMessageBatch": self._delete_message_batch,
            "DeleteQueue": self._delete_queue,
            "GetQueueAttributes": self._get_queue_attributes,
            "GetQueueUrl": self._get_queue_url,
            "ListDeadLetterSourceQueues": self._list_dead_letter_source_queues,
            "ListMessageMoveTasks": self._list_message_move_tasks,
            "ListQueueTags": self._list_queue_tags,
            "ListQueues": self._list_queues,
            "PurgeQueue": self._purge_queue,
            "RemovePermission": self._remove_permission,
            "SendMessage": self._send_message,
            "SendMessageBatch": self._send_message_batch,
            "SetQueueAttributes": self._set_queue_attributes,
            "StartMessageMoveTask": self._start_message_move_task,
            "TagQueue": self._tag_queue,
            "UntagQueue": self._untag_queue,
        }

    def knows(self, action: str) -> bool:
        """Tell whether there is such an action."""
        return action in self._actions or action == "ReceiveMessage"

    def handle(self, action: str, request: Json, call: Call) -> Json:
        """Do one action other than ReceiveMessage and return its reply.

        Raises:
            SqsError: what the client is to see instead.
        """
        return self._actions[action](request, call)

    # Queues

    def _queue(self, request: Json, call: Call, limited: str | None = None) -> Queue:
        queue = call.queue = self.engine.queue(
            _name_in(required(request, "QueueUrl", str), self.engine.region)
        )
        if limited is not None and not queue.admits_call(limited, call.now):
            raise throttled()
        return queue

    @staticmethod
    def _url(name: str, call: Call) -> str:
        return f"http://{call.host}/{ACCOUNT}/{name}"

    def _create_queue(self, request: Json, call: Call) -> Json:
        name = required(request, "QueueName", str)
        attributes = string_map(request, "Attributes")
        tags = string_map(request, "tags") or string_map(request, "Tags")
        call.queue = self.engine.create_queue(name, attributes, tags, call.now)
        return {"QueueUrl": self._url(name, call)}

    def _get_queue_url(self, request: Json, call: Call) -> Json:
        name = required(request, "QueueName", str)
        if (optional(request, "QueueOwnerAWSAccountId", str) or ACCOUNT) != ACCOUNT:
            raise queue_does_not_exist()
        call.queue = self.engine.queue(name)
        return {"QueueUrl": self._url(call.queue.name, call)}

    def _list_queues(self, request: Json, call: Call) -> Json:
        prefix = optional(request, "QueueNamePrefix", str) or ""
        names = sorted(name for name in self.engine.queues if name.startswith(prefix))
        return self._page(names, request, call, "QueueUrls")

    def _list_dead_letter_source_queues(self, request: Json, call: Call) -> Json:
        queue = self._queue(request, call)
        names = sorted(source.name for source in self.engine.dead_letter_sources(queue))
        return self._page(names, request, call, "queueUrls")

    def _page(self, names: list[str], request: Json, call: Call, key: str) -> Json:
        size = number_in(
            request, "MaxResults", 1, _MAX_PAGE, _MAX_PAGE, "MaxResults must be >= 1 and <= 1000."
        )
        after = optional(request, "NextToken", str)
        asked = optional(request, "QueueNamePrefix", str) or (call.queue.name if call.queue else "")
        if after is not None:
            if optional(request, "MaxResults", int) is None:
                raise invalid_parameter(
                    "MaxResults is a mandatory parameter when you provide a value for NextToken."
                )
            last = _name_of_token(after, asked)
            names = [name for name in names if name > last]
        page = {key: [self._url(name, call) for name in names[:size]]}
        if len(names) > size and optional(request, "MaxResults", int) is not None:
            return {**page, "NextToken": _token_of(names[size - 1], asked)}
        return page if page[key] or key != "QueueUrls" else {}

    def _get_queue_attributes(self, request: Json, call: Call) -> Json:
        queue = self._queue(request, call)
        names = strings(request, "AttributeNames")
        for name in names:
            if name not in READABLE:
                raise unknown_attribute(name)
        queue.advance(call.now)
        visible, delayed, not_visible = COUNTS
        every = {
            **queue.attributes,
            "CreatedTimestamp": str(int(queue.created_at)),
            "LastModifiedTimestamp": str(int(queue.modified_at)),
            "QueueArn": self.engine.arn(queue.name),
            visible: str(queue.waiting),
            delayed: str(queue.delayed),
            not_visible: str(queue.in_flight),
        }
        if "All" not in names:
            every = {name: every[name] for name in names if name in every}
        return {"Attributes": every} if every else {}

    def _set_queue_attributes(self, request: Json, call: Call) -> Json:
        queue = self._queue(request, call)
        attributes = string_map(request, "Attributes")
        if not attributes:
            raise missing_parameter("Attribute.Name")
        self.engine.set_attributes(queue, attributes, call.now)
        return {}

    def _add_permission(self, request: Json, call: Call) -> Json:
        queue = self._queue(request, call)
        label = required(request, "Label", str)
        accounts, actions = strings(request, "AWSAccountIds"), strings(request, "Actions")
        policy = permissions.added(
            queue.attributes.get("Policy"), self.engine.arn(queue.name), label, accounts, actions
        )
        self.engine.set_attributes(queue, {"Policy": policy}, call.now)
        return {}

    def _remove_permission(self, request: Json, call: Call) -> Json:
        queue = self._queue(request, call)
        policy = permissions.removed(queue.attributes.get("Policy"), required(request, "Label", str))
        self.engine.set_attributes(queue, {"Policy": policy}, call.now)
        return {}

    def _delete_queue(self, request: Json, call: Call) -> Json:
        self.engine.delete_queue(self._queue(request, call), call.now)
        return {}

    def _purge_queue(self, request: Json, call: Call) -> Json:
        self.engine.purge(self._queue(request, call), call.now)
        return {}

    def _tag_queue(self, request: Json, call: Call) -> Json:
        queue = self._queue(request, call)
        tags = string_map(request, "Tags")
        if not tags:
            raise missing_parameter("Tags")
        # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html
        if any(not 1 <= len(key) <= 128 or len(value) > 256 for key, value in tags.items()):
            raise invalid_parameter("Tag keys must have 1 to 128 characters, tag values at most 256.")
        if len(queue.tags | tags) > _MAX_TAGS:
            raise invalid_parameter(f"Too many tags added for queue {queue.name}.")
        self.engine.set_tags(queue, queue.tags | tags)
        return {}

    def _untag_queue(self, request: Json, call: Call) -> Json:
        queue = self._queue(request, call)
        keys = strings(request, "TagKeys")
        if not keys:
            raise invalid_parameter("Tag keys must be between 1 and 128 characters in length.")
        self.engine.set_tags(queue, {key: value for key, value in queue.tags.items() if key not in keys})
        return {}

    def _list_queue_tags(self, request: Json, call: Call) -> Json:
        queue = self._queue(request, call)
        return {"Tags": queue.tags} if queue.tags else {}

    # Sending

    def _send_message(self, request: Json, call: Call) -> Json:
        queue = self._queue(request, call, "send")
        message, size = self._message(queue, request, call)
        call.payload_bytes = size
        return self._send(queue, message, request, call)

    def _send_message_batch(self, request: Json, call: Call) -> Json:
        queue = self._queue(request, call, "send")
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

        return self._each(entries, send)

    def _each(self, entries: list[Json], do: Callable[[Json], Json]) -> Json:
        """Do each entry of a batch; what fails is told of that entry alone."""
        successful: list[Json] = []
        failed: list[Json] = []
        for entry in entries:
            try:
                if self.faults.fails_entry():
                    raise internal_error()
                successful.append({"Id": entry["Id"], **do(entry)})
            except SqsError as error:
                failed.append(
                    {
                        "Id": entry["Id"],
                        "Code": error.code,
                        "Message": error.message,
                        "SenderFault": error.is_senders_fault,
                    }
                )
        reply: Json = {}
        if successful:
            reply["Successful"] = successful
        if failed:
            reply["Failed"] = failed
        return reply

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
            for name in system:
                if name != "AWSTraceHeader":
                    raise invalid_parameter(f"Message system attribute name '{name}' is invalid.")
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
                "The request includes a parameter that is not valid for this queue type.",
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
        sent = self.engine.send(queue, message, call.now, delay)
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

    # Receiving

    def receive_request(self, request: Json, call: Call) -> ReceiveRequest:
        """Check a ReceiveMessage request.

        Raises:
            SqsError: what the client is to see instead.
        """
        queue = self._queue(request, call, "receive")
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
                "The request includes a parameter that is not valid for this queue type.",
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
        messages = self.engine.receive(
            queue,
            request.limit,
            request.visibility_timeout,
            call.now,
            attempt_id=request.attempt_id,
            is_duplicated=self.faults.duplicates if self.faults.duplicate_deliveries else None,
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
        queue = self._queue(request, call, "delete")
        self.engine.delete(queue, required(request, "ReceiptHandle", str), call.now)
        return {}

    def _delete_message_batch(self, request: Json, call: Call) -> Json:
        queue = self._queue(request, call, "delete")

        def delete(entry: Json) -> Json:
            self.engine.delete(queue, required(entry, "ReceiptHandle", str), call.now)
            return {}

        return self._each(batch(request, "DeleteMessageBatch"), delete)

    def _change_message_visibility(self, request: Json, call: Call) -> Json:
        queue = self._queue(request, call, "change")
        self._change_visibility(queue, request, call)
        return {}

    def _change_message_visibility_batch(self, request: Json, call: Call) -> Json:
        queue = self._queue(request, call, "change")
        entries = batch(request, "ChangeMessageVisibilityBatch")
        return self._each(entries, lambda entry: self._change_visibility(queue, entry, call))

    def _change_visibility(self, queue: Queue, request: Json, call: Call) -> Json:
        handle = required(request, "ReceiptHandle", str)
        timeout = required(request, "VisibilityTimeout", int)
        if not 0 <= timeout <= MAX_VISIBILITY_SECONDS:
            raise invalid_value(
                timeout, "VisibilityTimeout", f"Must be between 0 and {MAX_VISIBILITY_SECONDS}, if provided."
            )
        self.engine.change_visibility(queue, handle, timeout, call.now)
        return {}

    # Message move tasks

    def _start_message_move_task(self, request: Json, call: Call) -> Json:
        source = required(request, "SourceArn", str)
        call.queue = self.engine.queue_by_arn(source)
        rate = optional(request, "MaxNumberOfMessagesPerSecond", int)
        if rate is not None and not 1 <= rate <= MAX_MOVES_PER_SECOND:
            raise invalid_value(
                rate, "MaxNumberOfMessagesPerSecond", f"Must be between 1 and {MAX_MOVES_PER_SECOND}."
            )
        destination = optional(request, "DestinationArn", str)
        return {"TaskHandle": self.engine.start_move(source, destination, rate, call.now)}

    def _list_message_move_tasks(self, request: Json, call: Call) -> Json:
        source = required(request, "SourceArn", str)
        call.queue = self.engine.queue_by_arn(source)
        limit = number_in(request, "MaxResults", 1, 10, 1, "Must be between 1 and 10.")
        results: list[Json] = []
        for task in self.engine.move_tasks(source, limit):
            result: Json = {
                "Status": task.status,
                "SourceArn": task.source,
                "ApproximateNumberOfMessagesMoved": task.moved,
                "ApproximateNumberOfMessagesToMove": task.to_move,
                "StartedTimestamp": int(task.started_at * 1000),
                "TaskHandle": self.engine.task_handle(task) if task.status == "RUNNING" else None,
                "DestinationArn": task.destination,
                "MaxNumberOfMessagesPerSecond": task.per_second,
                "FailureReason": task.failure,
            }
            results.append({key: value for key, value in result.items() if value is not None})
        return {"Results": results}

    def _cancel_message_move_task(self, request: Json, call: Call) -> Json:
        task = self.engine.cancel_move(required(request, "TaskHandle", str))
        call.queue = self.engine.queue_by_arn(task.source)
        return {"ApproximateNumberOfMessagesMoved": task.moved}


def _raw_attributes_bytes(entry: Json) -> int:
    """Return the size of a batch entry's attributes, 0 where they are not usable: that fails the entry."""
    if not entry.get("MessageAttributes"):
        return 0
    try:
        return attributes_bytes(message_attributes(entry))
    except SqsError:
        return 0
