"""Cases: dead letters and message move tasks."""

import json
from typing import Any

from benchmarks.sqs_cases.asking import FIFO, Asked, case, refused


def with_dead_letters(sqs: Asked, most: object, dead: str) -> str:
    """Make a queue whose messages become dead letters after so many receives."""
    policy = {"deadLetterTargetArn": sqs.attribute(dead, "QueueArn"), "maxReceiveCount": most}
    return sqs.queue(RedrivePolicy=json.dumps(policy), VisibilityTimeout=0)


@case(
    "SetQueueAttributesRequest.Attributes",
    "When the ReceiveCount for a message exceeds the maxReceiveCount for a queue, Amazon SQS "
    "moves the message to the dead-letter-queue.",
)
def a_message_received_too_often_is_a_dead_letter(sqs: Asked) -> None:
    dead = sqs.queue()
    url = with_dead_letters(sqs, 1, dead)
    sqs.send(url)
    assert sqs.bodies(url) == ["x"]
    assert sqs.bodies(url) == []
    assert sqs.bodies(dead) == ["x"]


@case(
    "SetQueueAttributesRequest.Attributes", "The dead-letter queue of a FIFO queue must also be a FIFO queue."
)
def a_dead_letter_queue_is_of_the_same_type(sqs: Asked) -> None:
    dead = sqs.queue(**FIFO)
    refused(with_dead_letters, sqs=sqs, most=1, dead=dead)


@case(
    "SetQueueAttributesRequest.Attributes",
    "denyAll – No source queues can specify this queue as the dead-letter queue.",
)
def a_queue_may_refuse_to_be_a_dead_letter_queue(sqs: Asked) -> None:
    dead = sqs.queue(RedriveAllowPolicy=json.dumps({"redrivePermission": "denyAll"}))
    refused(with_dead_letters, sqs=sqs, most=1, dead=dead)


def with_letters(sqs: Asked, count: int, kind: dict[str, object] | None = None) -> tuple[str, str]:
    """Make a queue and its dead-letter queue, in which so many wait; return both ARNs."""
    kind = kind or {}
    dead = sqs.queue(**kind)
    policy = {"deadLetterTargetArn": sqs.attribute(dead, "QueueArn"), "maxReceiveCount": 1}
    url = sqs.queue(**kind, RedrivePolicy=json.dumps(policy))
    for number in range(count):
        more = {"MessageGroupId": str(number), "MessageDeduplicationId": str(number)} if kind else {}
        sqs.send(url, str(number), **more)
    for _ in range(2):
        sqs.receive(url, VisibilityTimeout=0)
    assert sqs.attribute(dead, "ApproximateNumberOfMessages") == str(count)
    return str(sqs.attribute(url, "QueueArn")), str(sqs.attribute(dead, "QueueArn"))


@case("ReceiveMessageRequest.AttributeNames", "been received across all queues but not deleted")
def the_count_of_receives_goes_on_in_the_dead_letter_queue(sqs: Asked) -> None:
    dead = sqs.queue()
    url = with_dead_letters(sqs, 1, dead)
    sqs.send(url)
    (first,) = sqs.receive(url, AttributeNames=["All"])
    sqs.receive(url)
    (letter,) = sqs.receive(dead, AttributeNames=["All"])
    assert letter["MessageId"] == first["MessageId"]
    assert letter["Attributes"]["ApproximateReceiveCount"] == "2"


@case("ListDeadLetterSourceQueues", "the response includes a value for NextToken")
def sources_are_listed_in_pages(sqs: Asked) -> None:
    dead = sqs.queue()
    urls = {with_dead_letters(sqs, 1, dead) for _ in range(3)}
    ask = sqs.client.list_dead_letter_source_queues
    first = ask(QueueUrl=dead, MaxResults=2)
    rest = ask(QueueUrl=dead, MaxResults=2, NextToken=first["NextToken"])
    assert len(first["queueUrls"]) == 2
    assert {*first["queueUrls"], *rest["queueUrls"]} == urls


@case("CreateQueueRequest.Attributes", "You can specify up to 10 source queue ARNs.")
def a_queue_names_at_most_10_sources(sqs: Asked) -> None:
    arns = [f"arn:aws:sqs:us-east-1:000000000000:q{number}" for number in range(11)]

    def allow(permission: str, sources: list[str]) -> str:
        return sqs.queue(
            RedriveAllowPolicy=json.dumps({"redrivePermission": permission, "sourceQueueArns": sources})
        )

    allow("byQueue", arns[:10])
    refused(allow, permission="byQueue", sources=arns)
    refused(allow, permission="allowAll", sources=arns[:1])
    refused(allow, permission="byQueue", sources=[])


@case(
    "CreateQueueRequest.Attributes",
    "Only queues specified by the sourceQueueArns parameter can specify this queue as the dead-letter queue.",
)
def only_named_sources_may_use_a_dead_letter_queue(sqs: Asked) -> None:
    policy = {"redrivePermission": "byQueue", "sourceQueueArns": ["arn:aws:sqs:us-east-1:000000000000:other"]}
    refused(with_dead_letters, sqs=sqs, most=1, dead=sqs.queue(RedriveAllowPolicy=json.dumps(policy)))


@case(
    "StartMessageMoveTaskRequest.DestinationArn",
    "the messages will be redriven back to their respective original source queues.",
)
def dead_letters_go_back_where_they_came_from(sqs: Asked) -> None:
    source, dead = with_letters(sqs, 2)
    sqs.client.start_message_move_task(SourceArn=dead)
    url = sqs.client.get_queue_url(QueueName=source.rpartition(":")[2])["QueueUrl"]
    found: list[str] = []
    for _ in range(2):
        found += sqs.bodies(url, 1, WaitTimeSeconds=5)
    assert sorted(found) == ["0", "1"]


@case(
    "StartMessageMoveTask", "Only one active message movement task is supported per queue at any given time."
)
def one_move_task_runs_at_a_time_and_can_be_cancelled(sqs: Asked) -> None:
    _, dead = with_letters(sqs, 10)
    task: dict[str, Any] = {"SourceArn": dead, "MaxNumberOfMessagesPerSecond": 1}
    handle = sqs.client.start_message_move_task(**task)["TaskHandle"]
    refused(sqs.client.start_message_move_task, **task)
    (running,) = sqs.client.list_message_move_tasks(SourceArn=dead)["Results"]
    assert (running["Status"], running["TaskHandle"]) == ("RUNNING", handle)
    sqs.client.cancel_message_move_task(TaskHandle=handle)
    (ended,) = sqs.client.list_message_move_tasks(SourceArn=dead)["Results"]
    assert ended["Status"] in ("CANCELLING", "CANCELLED")


@case("StartMessageMoveTaskRequest.MaxNumberOfMessagesPerSecond", "messages per second is 500")
def a_move_takes_at_most_500_a_second(sqs: Asked) -> None:
    _, dead = with_letters(sqs, 1)
    for rate in (0, 501):
        refused(sqs.client.start_message_move_task, SourceArn=dead, MaxNumberOfMessagesPerSecond=rate)


@case("StartMessageMoveTaskRequest.SourceArn", "Currently, only ARNs of dead-letter queues (DLQs)")
def only_dead_letters_are_moved(sqs: Asked) -> None:
    arn = str(sqs.attribute(sqs.queue(), "QueueArn"))
    refused(sqs.client.start_message_move_task, SourceArn=arn)
    refused(sqs.client.start_message_move_task, "ResourceNotFound", SourceArn=arn + "x")


@case("ListMessageMoveTasksRequest.MaxResults", "The upper limit is 10.")
def at_most_10_move_tasks_are_listed(sqs: Asked) -> None:
    _, dead = with_letters(sqs, 1)
    for most in (0, 11):
        refused(sqs.client.list_message_move_tasks, SourceArn=dead, MaxResults=most)


@case("CancelMessageMoveTask", "A message movement can only be cancelled when the current status is RUNNING.")
def a_handle_of_nothing_is_refused(sqs: Asked) -> None:
    refused(sqs.client.cancel_message_move_task, TaskHandle="no")
