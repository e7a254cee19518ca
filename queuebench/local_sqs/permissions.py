"""AddPermission and RemovePermission: statements of a queue's policy, by their label.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_AddPermission.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from queuebench.local_sqs.attributes import MAX_STATEMENTS, too_many_statements
from queuebench.local_sqs.errors import SqsError, invalid_value, missing_parameter

MAX_ACTIONS = 7
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,80}")
_ACCOUNT = re.compile(r"[0-9]{12}")
_GRANTED = {
    "*",
    "ChangeMessageVisibility",
    "DeleteMessage",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "PurgeQueue",
    "ReceiveMessage",
    "SendMessage",
}
# "the principal … cannot be granted" these across accounts: API_AddPermission, "Cross-account permissions"
_OWNERS = {
    "AddPermission",
    "CancelMessageMoveTask",
    "CreateQueue",
    "DeleteQueue",
    "ListMessageMoveTasks",
    "ListQueueTags",
    "ListQueues",
    "RemovePermission",
    "SetQueueAttributes",
    "StartMessageMoveTask",
    "TagQueue",
    "UntagQueue",
}


def added(policy: str | None, arn: str, label: str, accounts: Sequence[str], actions: Sequence[str]) -> str:
    """Return the policy with a statement more.

    Args:
        policy: the queue's policy, JSON; None: it has none.
        arn: the queue's.
        label: the statement's, unique in the policy.
        accounts: who is allowed, 12 digits each.
        actions: what they are allowed, without "SQS:".

    Raises:
        SqsError: something is missing, unknown or there already.
    """
    _check_label(label)
    if not accounts:
        raise missing_parameter("AWSAccountIds")
    if not actions:
        raise missing_parameter("Actions")
    for account in accounts:
        if not _ACCOUNT.fullmatch(account):
            raise invalid_value(account, "PrincipalId", "Unable to verify.")
    for action in actions:
        if action in _OWNERS:
            raise invalid_value(
                f"SQS:{action}", "ActionName", "Only the queue owner is allowed to invoke this action."
            )
        if action not in _GRANTED:
            raise invalid_value(
                f"SQS:{action}",
                "ActionName",
                "Please refer to the appropriate WSDL for a list of valid actions.",
            )
    if len(actions) > MAX_ACTIONS:
        raise SqsError("OverLimit", f"{len(actions)} Actions were found, maximum allowed is {MAX_ACTIONS}.")
    document = _document(policy, arn)
    if any(statement.get("Sid") == label for statement in document["Statement"]):
        raise invalid_value(label, "Label", "Already exists.")
    if len(document["Statement"]) >= MAX_STATEMENTS:
        raise too_many_statements(len(document["Statement"]) + 1)
    document["Statement"].append(
        {
            "Sid": label,
            "Effect": "Allow",
            "Principal": {"AWS": _one_or_all([f"arn:aws:iam::{account}:root" for account in accounts])},
            "Action": _one_or_all([f"SQS:{action}" for action in actions]),
            "Resource": arn,
        }
    )
    return json.dumps(document, separators=(",", ":"))


def removed(policy: str | None, label: str) -> str:
    """Return the policy without the statement of that label; '' where none is left.

    Raises:
        SqsError: there is no such statement.
    """
    _check_label(label)
    document = _document(policy, "")
    left = [statement for statement in document["Statement"] if statement.get("Sid") != label]
    if len(left) == len(document["Statement"]):
        raise invalid_value(
            label, "Label", "can't find label on existing policy." if policy else "can't find label."
        )
    return json.dumps({**document, "Statement": left}, separators=(",", ":")) if left else ""


def _check_label(label: str) -> None:
    if not label:
        raise missing_parameter("Label")
    if not _LABEL.fullmatch(label):
        raise invalid_value(
            label,
            "Label",
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length.",
        )


def _document(policy: str | None, arn: str) -> dict[str, Any]:
    found = json.loads(policy) if policy else {}
    if not isinstance(found, dict):
        found = {}
    statements = found.get("Statement", [])
    if isinstance(statements, dict):
        statements = [statements]
    known = [statement for statement in statements if isinstance(statement, dict)]
    start = {"Version": "2008-10-17", "Id": f"{arn}/SQSDefaultPolicy"}
    return {**start, **found, "Statement": known}


def _one_or_all(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values
