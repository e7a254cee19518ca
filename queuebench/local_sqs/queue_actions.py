"""The actions about queues: making, finding, attributes, tags, permissions."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from queuebench.local_sqs import permissions
from queuebench.local_sqs.attributes import COUNTS, READABLE
from queuebench.local_sqs.call import Action, Call, queue_of, queue_url
from queuebench.local_sqs.engine import ACCOUNT, Engine
from queuebench.local_sqs.errors import (
    invalid_parameter,
    missing_parameter,
    queue_does_not_exist,
    unknown_attribute,
)
from queuebench.local_sqs.validation import Json, number_in, optional, required, string_map, strings

_MAX_PAGE = 1000
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html
_MAX_TAGS = 50
_TAG = re.compile(r"[\w\s.:/=+@-]*")


class QueueActions:
    """The actions about the queues of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.actions: dict[str, Action] = {
            "AddPermission": self._add_permission,
            "CreateQueue": self._create_queue,
            "DeleteQueue": self._delete_queue,
            "GetQueueAttributes": self._get_queue_attributes,
            "GetQueueUrl": self._get_queue_url,
            "ListDeadLetterSourceQueues": self._list_dead_letter_source_queues,
            "ListQueueTags": self._list_queue_tags,
            "ListQueues": self._list_queues,
            "PurgeQueue": self._purge_queue,
            "RemovePermission": self._remove_permission,
            "SetQueueAttributes": self._set_queue_attributes,
            "TagQueue": self._tag_queue,
            "UntagQueue": self._untag_queue,
        }

    def _create_queue(self, request: Json, call: Call) -> Json:
        name = required(request, "QueueName", str)
        attributes = string_map(request, "Attributes")
        tags = string_map(request, "tags") or string_map(request, "Tags")
        _check_tags(name, {}, tags)
        call.queue = self._engine.create_queue(name, attributes, tags, call.now)
        return {"QueueUrl": queue_url(name, call)}

    def _get_queue_url(self, request: Json, call: Call) -> Json:
        name = required(request, "QueueName", str)
        if (optional(request, "QueueOwnerAWSAccountId", str) or ACCOUNT) != ACCOUNT:
            raise queue_does_not_exist()
        call.queue = self._engine.queue(name)
        return {"QueueUrl": queue_url(call.queue.name, call)}

    def _list_queues(self, request: Json, call: Call) -> Json:
        prefix = optional(request, "QueueNamePrefix", str) or ""
        names = sorted(name for name in self._engine.queues if name.startswith(prefix))
        return self._page(names, request, call, "QueueUrls")

    def _list_dead_letter_source_queues(self, request: Json, call: Call) -> Json:
        queue = queue_of(self._engine, request, call)
        names = sorted(source.name for source in self._engine.dead_letter_sources(queue))
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
        page = {key: [queue_url(name, call) for name in names[:size]]}
        if len(names) > size and optional(request, "MaxResults", int) is not None:
            return {**page, "NextToken": _token_of(names[size - 1], asked)}
        return page if page[key] or key != "QueueUrls" else {}

    def _get_queue_attributes(self, request: Json, call: Call) -> Json:
        queue = queue_of(self._engine, request, call)
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
            "QueueArn": self._engine.arn(queue.name),
            visible: str(queue.waiting),
            delayed: str(queue.delayed),
            not_visible: str(queue.in_flight),
        }
        if "All" not in names:
            every = {name: every[name] for name in names if name in every}
        return {"Attributes": every} if every else {}

    def _set_queue_attributes(self, request: Json, call: Call) -> Json:
        queue = queue_of(self._engine, request, call)
        attributes = string_map(request, "Attributes")
        if not attributes:
            raise missing_parameter("Attribute.Name")
        self._engine.set_attributes(queue, attributes, call.now)
        return {}

    def _add_permission(self, request: Json, call: Call) -> Json:
        queue = queue_of(self._engine, request, call)
        label = required(request, "Label", str)
        accounts, actions = strings(request, "AWSAccountIds"), strings(request, "Actions")
        policy = permissions.added(
            queue.attributes.get("Policy"), self._engine.arn(queue.name), label, accounts, actions
        )
        self._engine.set_attributes(queue, {"Policy": policy}, call.now)
        return {}

    def _remove_permission(self, request: Json, call: Call) -> Json:
        queue = queue_of(self._engine, request, call)
        policy = permissions.removed(queue.attributes.get("Policy"), required(request, "Label", str))
        self._engine.set_attributes(queue, {"Policy": policy}, call.now)
        return {}

    def _delete_queue(self, request: Json, call: Call) -> Json:
        self._engine.delete_queue(queue_of(self._engine, request, call), call.now)
        return {}

    def _purge_queue(self, request: Json, call: Call) -> Json:
        self._engine.purge(queue_of(self._engine, request, call), call.now)
        return {}

    def _tag_queue(self, request: Json, call: Call) -> Json:
        queue = queue_of(self._engine, request, call)
        tags = string_map(request, "Tags")
        if not tags:
            raise missing_parameter("Tags")
        _check_tags(queue.name, queue.tags, tags)
        self._engine.set_tags(queue, queue.tags | tags)
        return {}

    def _untag_queue(self, request: Json, call: Call) -> Json:
        queue = queue_of(self._engine, request, call)
        keys = strings(request, "TagKeys")
        if not keys:
            raise invalid_parameter("Tag keys must be between 1 and 128 characters in length.")
        self._engine.set_tags(queue, {key: value for key, value in queue.tags.items() if key not in keys})
        return {}

    def _list_queue_tags(self, request: Json, call: Call) -> Json:
        queue = queue_of(self._engine, request, call)
        return {"Tags": queue.tags} if queue.tags else {}


def _check_tags(queue_name: str, present: dict[str, str], added: dict[str, str]) -> None:
    """See that tags are within the limits.

    Raises:
        SqsError: they are not.
    """
    for key, value in added.items():
        if not 1 <= len(key) <= 128:
            raise invalid_parameter("Tag keys must be between 1 and 128 characters in length.")
        if len(value) > 256:
            raise invalid_parameter("Tag values must not exceed 256 characters in length.")
        if key.startswith("aws:") or value.startswith("aws:"):
            raise invalid_parameter("Tag keys and values must not start with aws:, which is reserved.")
        if not _TAG.fullmatch(key) or not _TAG.fullmatch(value):
            raise invalid_parameter(
                "Tags can only include alphanumeric characters, whitespace, and _ . : / = + - @"
            )
    if len(present | added) > _MAX_TAGS:
        raise invalid_parameter(f"Too many tags added for queue {queue_name}.")


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
