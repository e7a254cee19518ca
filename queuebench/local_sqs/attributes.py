"""Queue attributes: their names, defaults, ranges, and what follows from them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from queuebench.local_sqs.errors import SqsError, invalid_attribute, invalid_value, unknown_attribute

# Default and range of each number:
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
_NUMBERS = {
    "DelaySeconds": ("0", 0, 900),
    "MaximumMessageSize": ("1048576", 1024, 1_048_576),
    "MessageRetentionPeriod": ("345600", 60, 1_209_600),
    "ReceiveMessageWaitTimeSeconds": ("0", 0, 20),
    "VisibilityTimeout": ("30", 0, 43_200),
}
_KMS = {"KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds"}
_OPTIONAL = {"Policy", "RedrivePolicy", "RedriveAllowPolicy", "SqsManagedSseEnabled"} | _KMS
_FIFO = {
    "ContentBasedDeduplication": ("false", ("true", "false")),
    "DeduplicationScope": ("queue", ("queue", "messageGroup")),
    "FifoThroughputLimit": ("perQueue", ("perQueue", "perMessageGroupId")),
}
_ARN = re.compile(r"arn:[^:]+:[^:]*:[^:]*:[^:]*:[^:]+")
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html
MAX_POLICY_BYTES = 8192
MAX_STATEMENTS = 20
_NO_ALLOW_POLICY = "Amazon SQS can't create the redrive allow policy"
COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed",
          "ApproximateNumberOfMessagesNotVisible")  # fmt: skip
READABLE = {
    *_NUMBERS, *_OPTIONAL, *_FIFO, *COUNTS,
    "All", "CreatedTimestamp", "FifoQueue", "LastModifiedTimestamp", "QueueArn",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RedrivePolicy:
    """Where a message goes that was received too often."""

    target_arn: str
    max_receive_count: int


@dataclass(frozen=True, slots=True)
class RedriveAllowPolicy:
    """Which queues may name this one as their dead-letter queue."""

    permission: str
    source_arns: tuple[str, ...]

    def allows(self, source_arn: str) -> bool:
        """Tell whether the source may name this queue."""
        if self.permission == "byQueue":
            return source_arn in self.source_arns
        return self.permission == "allowAll"


def new_queue_attributes(requested: Mapping[str, str], *, fifo: bool) -> dict[str, str]:
    """Return every attribute of a new queue.

    Raises:
        SqsError: an attribute is unknown, or its value out of range.
    """
    attributes = {name: default for name, (default, _, _) in _NUMBERS.items()}
    attributes["SqsManagedSseEnabled"] = "true"
    if fifo:
        attributes |= {name: default for name, (default, _) in _FIFO.items()} | {"FifoQueue": "true"}
    return changed_attributes(attributes, requested, fifo=fifo, creating=True)


def changed_attributes(
    current: Mapping[str, str], requested: Mapping[str, str], *, fifo: bool, creating: bool = False
) -> dict[str, str]:
    """Return the attributes of a queue after a change.

    Raises:
        SqsError: an attribute is unknown, or its value out of range.
    """
    after = dict(current)
    for name, value in requested.items():
        if name == "FifoQueue":
            if not fifo:
                raise unknown_attribute(name)
            value = value.lower()
            if value != "true":
                raise invalid_attribute(name, "Modifying queue type is not supported.")
        elif name in _NUMBERS:
            _, least, most = _NUMBERS[name]
            if not (value.isascii() and value.isdigit() and least <= int(value) <= most):
                raise invalid_attribute(name)
            value = str(int(value))
        elif name in _FIFO:
            if not fifo and name == "ContentBasedDeduplication":
                raise unknown_attribute(name)
            if not fifo:
                raise SqsError(
                    "InvalidAttributeName", f"You can specify the {name} only when FifoQueue is set to true."
                )
            if name == "ContentBasedDeduplication":
                value = value.lower()
            if value not in _FIFO[name][1]:
                raise invalid_attribute(name)
        elif name == "RedrivePolicy":
            value = value and _with_whole_count(value, parse_redrive_policy(value).max_receive_count)
        elif name == "RedriveAllowPolicy" and value:
            parse_redrive_allow_policy(value)
        elif name == "SqsManagedSseEnabled":
            value = value.lower()
            if value not in ("true", "false"):
                raise invalid_attribute(name)
        elif name == "KmsDataKeyReusePeriodSeconds" and value:
            if not (value.isascii() and value.isdigit() and 60 <= int(value) <= 86_400):
                raise invalid_attribute(name)
            value = str(int(value))
        elif name == "Policy" and value:
            _check_policy(value)
        elif name not in _OPTIONAL:
            raise unknown_attribute(name)
        if value:
            after[name] = value
        else:
            after.pop(name, None)
    if after.get("FifoThroughputLimit") == "perMessageGroupId" and after["DeduplicationScope"] == "queue":
        raise invalid_attribute(
            "FifoThroughputLimit", "perMessageGroupId needs DeduplicationScope to be messageGroup."
        )
    _check_encryption(after, requested)
    if creating and fifo:
        after["FifoQueue"] = "true"
    return after


def too_many_statements(count: int) -> SqsError:
    """Make the error for a policy of more statements than a queue may have."""
    return SqsError(
        "OverLimit",
        f"{count} statements were found in the submitted policy, max allowed is {MAX_STATEMENTS}",
    )


def _check_policy(text: str) -> None:
    """See that a policy is a JSON object within the limits.

    Raises:
        SqsError: it is not.
    """
    try:
        policy = json.loads(text)
    except (ValueError, RecursionError):
        policy = None
    if not isinstance(policy, dict) or len(text.encode()) > MAX_POLICY_BYTES:
        raise invalid_attribute("Policy")
    statements = policy.get("Statement")
    if isinstance(statements, list) and len(statements) > MAX_STATEMENTS:
        raise too_many_statements(len(statements))


def _check_encryption(after: dict[str, str], requested: Mapping[str, str]) -> None:
    """See that one kind of encryption is on: the one that was asked for last.

    Raises:
        SqsError: both are asked for, or the one while the other is on.
    """
    if after.get("KmsMasterKeyId"):
        if requested.get("SqsManagedSseEnabled", "").lower() == "true":
            raise SqsError(
                "InvalidAttributeName",
                "You can use one type of server-side encryption (SSE) at one time. "
                "You can either enable KMS SSE or SQS SSE.",
            )
        after["SqsManagedSseEnabled"] = "false"
        after.setdefault("KmsDataKeyReusePeriodSeconds", "300")
    else:
        # without a key AWS takes it, and ignores it
        after.pop("KmsDataKeyReusePeriodSeconds", None)


def _with_whole_count(policy: str, count: int) -> str:
    """Return a redrive policy as it was given, its count a number."""
    given = json.loads(policy)
    if type(given["maxReceiveCount"]) is int:
        return policy
    return json.dumps({**given, "maxReceiveCount": count}, separators=(",", ":"))


def differing_attribute(
    existing: Mapping[str, str], requested: Mapping[str, str], *, fifo: bool
) -> str | None:
    """Name the first requested attribute whose value is not the existing one, if any."""
    wanted = new_queue_attributes(requested, fifo=fifo)
    return next((name for name in requested if existing.get(name) != wanted.get(name)), None)


def parse_redrive_policy(text: str) -> RedrivePolicy:
    """Parse the value of RedrivePolicy.

    Raises:
        SqsError: it is not JSON, a key is missing, or the count is not 1 to 1,000.
    """
    policy = _json_object(text, "RedrivePolicy")
    for key in ("deadLetterTargetArn", "maxReceiveCount"):
        if key not in policy:
            raise invalid_value(
                text, "RedrivePolicy", f"Redrive policy does not contain mandatory attribute: {key}."
            )
    arn, given = policy["deadLetterTargetArn"], policy["maxReceiveCount"]
    count = int(given) if isinstance(given, str) and given.isascii() and given.isdigit() else given
    if type(count) is not int or not 1 <= count <= 1000:
        raise invalid_value(
            text,
            "RedrivePolicy",
            f"Invalid value for maxReceiveCount: {given}, valid values are from 1 to 1000 both inclusive.",
        )
    if not isinstance(arn, str) or not arn.startswith("arn:"):
        raise invalid_value(text, "RedrivePolicy", "Invalid value for deadLetterTargetArn.")
    if not _ARN.fullmatch(arn):
        raise invalid_value(text, "RedrivePolicy", "Dead-letter target ARN should be fully qualified ARN.")
    if len(policy) > 2:
        raise invalid_value(
            text,
            "RedrivePolicy",
            "Only following attributes are supported: [maxReceiveCount, deadLetterTargetArn].",
        )
    return RedrivePolicy(arn, count)


def parse_redrive_allow_policy(text: str) -> RedriveAllowPolicy:
    """Parse the value of RedriveAllowPolicy.

    Raises:
        SqsError: it is not JSON, or not one of the three permissions with what it asks for.
    """
    policy = _json_object(text, "RedriveAllowPolicy")
    permission, sources = policy.get("redrivePermission"), policy.get("sourceQueueArns", [])
    if (
        permission not in ("allowAll", "denyAll", "byQueue")
        or not isinstance(sources, list)
        or not all(isinstance(arn, str) for arn in sources)
        or not set(policy) <= {"redrivePermission", "sourceQueueArns"}
    ):
        raise invalid_attribute(
            "RedriveAllowPolicy", f"{_NO_ALLOW_POLICY}, as it’s in an unsupported format."
        )
    problem = ""
    if sources and permission != "byQueue":
        problem = "To specify one or more source queue ARNs, you must set redrivePermission to byQueue."
    elif permission == "byQueue" and not sources:
        problem = (
            "When you specify the byQueue permission type, you must also specify one or more "
            "sourceQueueArns values."
        )
    elif len(sources) > 10:
        problem = "The maximum number of source queue ARNs you can specify is 10."
    if problem:
        raise invalid_value(text, "RedriveAllowPolicy", f"{_NO_ALLOW_POLICY}. {problem}")
    return RedriveAllowPolicy(permission, tuple(sources))


def _json_object(text: str, name: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise invalid_value(text, name, "Redrive policy is not a valid JSON map.")
    return value
