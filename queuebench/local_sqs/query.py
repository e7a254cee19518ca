"""AWS's older protocol: a form in, XML out. The actions behind it are the same, so are the errors.

Names on the wire are those of the service model of botocore 1.31.0, the last one that speaks it; today's
model keeps the shapes but not these names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson

from queuebench.local_sqs.errors import SqsError, queue_does_not_exist
from queuebench.local_sqs.validation import Json

NAMESPACE = "http://queue.amazonaws.com/doc/2012-11-05/"
MAX_FIELDS = 10_000  # a batch of 10 messages of 10 attributes has some 400

# A list of the JSON protocol → what each of its members is called in a form; a map → entry, key and value.
_LISTS_IN = {
    "AttributeName": "AttributeNames",
    "MessageAttributeName": "MessageAttributeNames",
    "MessageSystemAttributeName": "MessageSystemAttributeNames",
    "TagKey": "TagKeys",
    "AWSAccountId": "AWSAccountIds",
    "ActionName": "Actions",
    "StringListValue": "StringListValues",
    "BinaryListValue": "BinaryListValues",
    "SendMessageBatchRequestEntry": "Entries",
    "DeleteMessageBatchRequestEntry": "Entries",
    "ChangeMessageVisibilityBatchRequestEntry": "Entries",
}
_MAPS_IN = {
    "Attribute": ("Attributes", "Name", "Value"),
    "MessageAttribute": ("MessageAttributes", "Name", "Value"),
    "MessageSystemAttribute": ("MessageSystemAttributes", "Name", "Value"),
    "Tag": ("Tags", "Key", "Value"),
}
_LISTS_OUT = {
    "QueueUrls": "QueueUrl",
    "queueUrls": "QueueUrl",
    "Messages": "Message",
    "Failed": "BatchResultErrorEntry",
    "Results": "ListMessageMoveTasksResultEntry",
    "StringListValues": "StringListValue",
    "BinaryListValues": "BinaryListValue",
}
_MAPS_OUT = {
    "Attributes": ("Attribute", "Name", "Value"),
    "MessageAttributes": ("MessageAttribute", "Name", "Value"),
    "Tags": ("Tag", "Key", "Value"),
}
_WHOLE = {
    "DelaySeconds",
    "MaxNumberOfMessages",
    "MaxNumberOfMessagesPerSecond",
    "MaxResults",
    "VisibilityTimeout",
    "WaitTimeSeconds",
}
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}
# what XML has to write otherwise, and what it cannot hold at all
_ESCAPED = re.compile('[&<>"\r]|[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')


def parse(form: bytes, path: str) -> tuple[str, Json]:
    """Return the action that a form asks for, and its request as the JSON protocol has it.

    Args:
        form: the body, or the query of a GET.
        path: the request's path, which names the queue where the form does not.

    Raises:
        SqsError: it cannot be read, or names no action.
    """
    try:
        fields = parse_qsl(form.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise SqsError("MalformedQueryString", "The query string contains a syntax error.") from None
    tree: dict[str, Any] = {}
    for name, value in fields:
        _put(tree, name.split("."), value)
    action = tree.pop("Action", None)
    if not isinstance(action, str) or not action:
        raise SqsError("MissingAction", "The request must contain the parameter Action.")
    # of the signature and the protocol, not of the action
    for name in [name for name in tree if name in ("Version", "Timestamp", "Expires") or _is_signature(name)]:
        del tree[name]
    request = _structure(tree)
    if action.endswith("Batch"):
        # a form cannot tell an empty list from none
        request.setdefault("Entries", [])
    if path.strip("/"):
        if action in _NOT_OF_A_QUEUE:
            raise invalid_action(action)
        request.setdefault("QueueUrl", path)
    return action, request


def invalid_action(action: str) -> SqsError:
    """Make the error for an action that does not exist, or not at a queue's address."""
    return SqsError("InvalidAction", f"The action {action} is not valid for this endpoint.")


def _is_signature(name: str) -> bool:
    return name.startswith(("Signature", "X-Amz-")) or name in ("AWSAccessKeyId", "SecurityToken")


def _put(tree: dict[str, Any], path: list[str], value: str) -> None:
    for part in path[:-1]:
        below = tree.setdefault(part, {})
        if not isinstance(below, dict):
            raise SqsError("MalformedQueryString", "The query string contains a syntax error.")
        tree = below
    if isinstance(tree.get(path[-1]), dict):
        raise SqsError("MalformedQueryString", "The query string contains a syntax error.")
    tree[path[-1]] = value


def _structure(tree: Mapping[str, Any]) -> Json:
    read: Json = {}
    for name, value in tree.items():
        if name in _LISTS_IN and isinstance(value, dict):
            read[_LISTS_IN[name]] = [_value(name, entry) for entry in _in_order(value)]
        elif name in _MAPS_IN and isinstance(value, dict):
            member, key, content = _MAPS_IN[name]
            read[member] = {}
            for entry in _in_order(value):
                if not isinstance(entry, dict) or not isinstance(entry.get(key), str):
                    raise SqsError(
                        "MissingRequiredParameterException",
                        f"The request must contain the parameter {name}.{key}.",
                    )
                read[member][entry[key]] = _value(content, entry.get(content, ""))
        elif value == "" and name in _LISTS_IN.values():
            # what SDKs make of a list without members
            read[name] = []
        else:
            read[name] = _value(name, value)
    return read


def _in_order(entries: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the entries of `.1`, `.2`, … in their order, whatever order they were sent in."""
    if not all(re.fullmatch(r"[0-9]{1,9}", number) for number in entries):
        raise SqsError("MalformedQueryString", "The query string contains a syntax error.")
    for number in sorted(entries, key=int):
        yield entries[number]


def _value(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return _structure(value)
    if name in _WHOLE:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", value):
            raise SqsError("MalformedInput", f"{name} must be a whole number.")
        return int(value)
    return value


def reply_xml(action: str, reply: Json, request_id: str) -> bytes:
    """Return a reply of the JSON protocol as the XML of this one."""
    # These have no result at all in the older model.
    result = "".join(_element(name, value, action) for name, value in reply.items())
    wrapped = f"<{action}Result>{result}</{action}Result>" if result or action in _WITH_RESULT else ""
    return _document(
        f'<{action}Response xmlns="{NAMESPACE}">{wrapped}'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
    )


def error_xml(error: SqsError, request_id: str) -> bytes:
    """Return an error as XML."""
    told = "".join(f"<{name}>{_escape(text)}</{name}>" for name, text in _told(error).items())
    return _document(
        f'<ErrorResponse xmlns="{NAMESPACE}"><Error>{told}<Detail/></Error>'
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    )


def _told(error: SqsError) -> dict[str, str]:
    message = error.message
    if error.shape == "QueueDoesNotExist" and message == queue_does_not_exist().message:
        message = "The specified queue does not exist for this wsdl version."
    kind = "Sender" if error.is_senders_fault else "Receiver"
    return {"Type": kind, "Code": error.code, "Message": message}


def reply_json(action: str, reply: Json, request_id: str) -> bytes:
    """Return a reply as JSON, as this protocol gives it to whoever accepts nothing else."""
    result = {name: _listed(name, value) for name, value in reply.items()}
    if action == "ReceiveMessage":
        messages = [_MESSAGE | message for message in result.get("Messages", [])]
        result = {"messages": messages or None}
    response: Json = {"ResponseMetadata": {"RequestId": request_id}}
    if result or action in _WITH_RESULT:
        response = {f"{action}Result": result, **response}
    return orjson.dumps({f"{action}Response": response})


def error_json(error: SqsError, request_id: str) -> bytes:
    """Return an error as JSON of this protocol."""
    return orjson.dumps({"Error": _told(error), "RequestId": request_id})


def _listed(name: str, value: Any) -> Any:
    """Turn the maps in a value into lists of names and values."""
    if isinstance(value, dict):
        inside = {found: _listed(found, held) for found, held in value.items()}
        if name in _MAPS_OUT:
            _, key, content = _MAPS_OUT[name]
            return [{key: found, content: held} for found, held in inside.items()]
        return inside
    return [_listed("", each) for each in value] if isinstance(value, list) else value


# as AWS shows it: what a message lacks is null
_MESSAGE: Json = dict.fromkeys(
    ("Attributes", "Body", "MD5OfBody", "MD5OfMessageAttributes", "MessageAttributes", "MessageId",
     "ReceiptHandle")
)  # fmt: skip
_NOT_OF_A_QUEUE = {"CreateQueue", "ListQueues"}
# a GET that names no action
UNKNOWN_OPERATION = b"<UnknownOperationException/>\n"
_WITH_RESULT = {
    "CancelMessageMoveTask",
    "ChangeMessageVisibilityBatch",
    "CreateQueue",
    "DeleteMessageBatch",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "ListMessageMoveTasks",
    "ListQueueTags",
    "ListQueues",
    "ReceiveMessage",
    "SendMessage",
    "SendMessageBatch",
    "StartMessageMoveTask",
}


def _document(text: str) -> bytes:
    return f'<?xml version="1.0"?>{text}'.encode()


def _element(name: str, value: Any, action: str) -> str:
    if name in _MAPS_OUT and isinstance(value, dict):
        entry, key, content = _MAPS_OUT[name]
        return "".join(
            f"<{entry}><{key}>{_escape(found)}</{key}>{_element(content, held, action)}</{entry}>"
            for found, held in value.items()
        )
    if isinstance(value, list):
        member = f"{action}ResultEntry" if name == "Successful" else _LISTS_OUT[name]
        return "".join(_element(member, each, action) for each in value)
    if isinstance(value, dict):
        inside = "".join(_element(found, held, action) for found, held in value.items())
        return f"<{name}>{inside}</{name}>"
    if isinstance(value, bool):
        value = str(value).lower()
    return f"<{name}>{_escape(str(value))}</{name}>"


def _escape(text: str) -> str:
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[0], "\ufffd"), text)
