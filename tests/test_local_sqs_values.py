"""Values that AWS takes, refuses or turns into others, asked of the local SQS over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import local_sqs_fixtures as fixtures
from tests.local_sqs_fixtures import Sqs, error_of, fresh_name

local = fixtures.local
local_server = fixtures.local_server

ONE_KIND = (
    "You can use one type of server-side encryption (SSE) at one time. "
    "You can either enable KMS SSE or SQS SSE."
)


@pytest.mark.parametrize("count", [2, 5])
def test_an_older_handle_of_a_standard_queue_changes_visibility(local: Sqs, count: int) -> None:
    url = local.queue(VisibilityTimeout=0)
    local.send(url, "x")
    handles = [local.receive(url, wait=5)[0]["ReceiptHandle"] for _ in range(count)]
    (_,) = local.receive(url, wait=5, VisibilityTimeout=600)
    assert local.bodies(url) == []
    local.client.change_message_visibility(QueueUrl=url, ReceiptHandle=handles[0], VisibilityTimeout=0)
    assert local.bodies(url, wait=5) == ["x"]


def test_an_older_handle_deletes_nothing_alone_or_in_a_batch(local: Sqs) -> None:
    # "If you use an old ReceiptHandle, the request will succeed, but the message might not be deleted":
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html
    # A client that trusts it to delete is wrong on AWS too; here it learns so every time.
    url = local.queue(VisibilityTimeout=0)
    local.send(url, "x")
    (old,) = local.receive(url, wait=5)
    (new,) = local.receive(url, wait=5, VisibilityTimeout=600)
    local.delete(url, old)
    entries = [{"Id": "a", "ReceiptHandle": old["ReceiptHandle"]}]
    reply = local.client.delete_message_batch(QueueUrl=url, Entries=entries)  # type: ignore[arg-type]
    assert [entry["Id"] for entry in reply["Successful"]] == ["a"]
    assert local.attribute(url, "ApproximateNumberOfMessagesNotVisible") == "1"
    local.delete(url, new)
    assert local.attribute(url, "ApproximateNumberOfMessagesNotVisible") == "0"


@pytest.mark.parametrize("value", ["True", "TRUE", "true", "tRuE"])
def test_booleans_are_taken_in_any_case(local: Sqs, value: str) -> None:
    name = fresh_name() + ".fifo"
    url = local.queue(name, FifoQueue=value, ContentBasedDeduplication=value)
    assert local.attribute(url, "FifoQueue") == "true"
    assert local.attribute(url, "ContentBasedDeduplication") == "true"
    assert local.queue(name, FifoQueue="true", ContentBasedDeduplication="true") == url
    local.client.set_queue_attributes(QueueUrl=url, Attributes={"ContentBasedDeduplication": "False"})
    assert local.attribute(url, "ContentBasedDeduplication") == "false"
    encrypted = local.queue(SqsManagedSseEnabled=value)
    assert local.attribute(encrypted, "SqsManagedSseEnabled") == "true"


@pytest.mark.parametrize("value", ["yes", "1", "", " true"])
def test_what_is_no_boolean_is_refused(local: Sqs, value: str) -> None:
    url = local.fifo()
    code, _ = error_of(
        local.client.set_queue_attributes, QueueUrl=url, Attributes={"ContentBasedDeduplication": value}
    )
    assert code == "InvalidAttributeValue"


def test_a_count_given_as_text_comes_back_as_a_number(local: Sqs) -> None:
    arn = local.arn(local.queue())
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "5"})
    kept = json.loads(local.attribute(local.queue(RedrivePolicy=policy), "RedrivePolicy"))
    assert kept == {"deadLetterTargetArn": arn, "maxReceiveCount": 5}


@pytest.mark.parametrize("name", ["größe", "имя", "名前", "ñ-1_x.y", "ع"])
def test_letters_beyond_ascii_are_letters_of_a_message_attributes_name(local: Sqs, name: str) -> None:
    url = local.queue()
    # the client verifies the digest of the attributes, too
    local.send(url, "x", MessageAttributes={name: {"DataType": "String", "StringValue": "wert"}})
    (message,) = local.receive(url, MessageAttributeNames=[name])
    assert message["MessageAttributes"][name]["StringValue"] == "wert"


@pytest.mark.parametrize("name", ["a b", "a/b", "a😀", "a€", ".a", "a.", "a..b", "AWS.a", "x" * 257])
def test_other_characters_are_not(local: Sqs, name: str) -> None:
    code, _ = error_of(
        local.client.send_message,
        QueueUrl=local.queue(),
        MessageBody="x",
        MessageAttributes={name: {"DataType": "String", "StringValue": "v"}},
    )
    assert code == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (["*"], {"a.b", "a.c", "d"}),
        (["All"], {"a.b", "a.c", "d"}),
        ([".*"], {"a.b", "a.c", "d"}),
        (["a.*"], {"a.b", "a.c"}),
        (["d", "a.b"], {"a.b", "d"}),
        (["nothing"], set()),
        ([], set()),
    ],
)
def test_which_message_attributes_are_asked_for(local: Sqs, asked: list[str], given: set[str]) -> None:
    url = local.queue()
    one = {"DataType": "String", "StringValue": "v"}
    local.send(url, "x", MessageAttributes={"a.b": one, "a.c": one, "d": one})
    (message,) = local.receive(url, MessageAttributeNames=asked)
    assert set(message.get("MessageAttributes", {})) == given


def kms(local: Sqs, url: str) -> dict[str, str]:
    names = ["KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "SqsManagedSseEnabled"]
    return dict(local.client.get_queue_attributes(QueueUrl=url, AttributeNames=names).get("Attributes", {}))  # type: ignore[arg-type]


def test_a_key_takes_the_place_of_the_queues_own_encryption_and_gives_it_back(local: Sqs) -> None:
    url = local.queue()
    assert kms(local, url) == {"SqsManagedSseEnabled": "true"}
    local.client.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": "alias/a"})
    assert kms(local, url) == {
        "KmsMasterKeyId": "alias/a",
        "KmsDataKeyReusePeriodSeconds": "300",
        "SqsManagedSseEnabled": "false",
    }
    # over two calls as in one
    for attributes in ({"SqsManagedSseEnabled": "true"}, {"SqsManagedSseEnabled": "True"}):
        refused = error_of(local.client.set_queue_attributes, QueueUrl=url, Attributes=attributes)
        assert refused == ("InvalidAttributeName", ONE_KIND)
    local.client.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": ""})
    assert "KmsMasterKeyId" not in kms(local, url)
    local.client.set_queue_attributes(QueueUrl=url, Attributes={"SqsManagedSseEnabled": "true"})
    assert kms(local, url) == {"SqsManagedSseEnabled": "true"}


def test_both_kinds_of_encryption_in_one_call_are_refused(local: Sqs) -> None:
    both = {"KmsMasterKeyId": "alias/a", "SqsManagedSseEnabled": "true"}
    assert error_of(local.client.create_queue, QueueName=fresh_name(), Attributes=both) == (
        "InvalidAttributeName",
        ONE_KIND,
    )
    assert local.queue(KmsMasterKeyId="alias/a", SqsManagedSseEnabled="false")


@pytest.mark.parametrize("value", ["59", "86401", "-1", "soon", "60.0"])
def test_the_reuse_of_a_data_key_is_a_minute_to_a_day(local: Sqs, value: str) -> None:
    attributes = {"KmsMasterKeyId": "alias/a", "KmsDataKeyReusePeriodSeconds": value}
    code, _ = error_of(local.client.create_queue, QueueName=fresh_name(), Attributes=attributes)
    assert code == "InvalidAttributeValue"
    for taken in ("60", "86400"):
        assert local.queue(KmsMasterKeyId="alias/a", KmsDataKeyReusePeriodSeconds=taken)


@pytest.mark.parametrize("token", ["x", "AAAA", "🙂"])
def test_a_token_that_no_page_gave_is_refused(local: Sqs, token: str) -> None:
    code, _ = error_of(local.client.list_queues, MaxResults=2, NextToken=token)
    assert code in ("InvalidParameterValue", "AWS.SimpleQueueService.InvalidParameterValue")


def test_a_queue_of_another_account_is_not_ours(local: Sqs) -> None:
    url = local.queue()
    start, account, name = url.rsplit("/", 2)
    other = f"{start}/{'1' * len(account)}/{name}"
    assert account != "1" * len(account)
    code, _ = error_of(local.client.send_message, QueueUrl=other, MessageBody="x")
    assert code == "AWS.SimpleQueueService.NonExistentQueue"
    assert local.bodies(url) == []


def test_a_batch_with_an_entry_without_a_deduplication_id_fails_as_a_whole(local: Sqs) -> None:
    url = local.fifo()
    entries: Any = [
        {"Id": "a", "MessageBody": "a", "MessageGroupId": "g", "MessageDeduplicationId": "d"},
        {"Id": "b", "MessageBody": "b", "MessageGroupId": "g"},
    ]
    assert error_of(local.client.send_message_batch, QueueUrl=url, Entries=entries) == (
        "InvalidParameterValue",
        "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided "
        "explicitly",
    )
    assert local.bodies(url) == []
    content_based = local.fifo(ContentBasedDeduplication="true")
    assert len(local.client.send_message_batch(QueueUrl=content_based, Entries=entries)["Successful"]) == 2


@pytest.mark.parametrize("name", ["DeduplicationScope", "FifoThroughputLimit"])
def test_what_is_for_fifo_queues_alone_is_said_of_it(local: Sqs, name: str) -> None:
    value = {"DeduplicationScope": "queue", "FifoThroughputLimit": "perQueue"}[name]
    assert error_of(local.client.create_queue, QueueName=fresh_name(), Attributes={name: value}) == (
        "InvalidAttributeName",
        f"You can specify the {name} only when FifoQueue is set to true.",
    )


def test_the_reuse_of_a_data_key_is_shown_with_a_key_alone(local: Sqs) -> None:
    url = local.queue(KmsDataKeyReusePeriodSeconds="600")
    names: Any = ["KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds"]
    assert "Attributes" not in local.client.get_queue_attributes(QueueUrl=url, AttributeNames=names)
    local.client.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": "alias/aws/sqs"})
    shown = local.client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    assert shown == {"KmsMasterKeyId": "alias/aws/sqs", "KmsDataKeyReusePeriodSeconds": "300"}


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (
            '{"deadLetterTargetArn":"%s","maxReceiveCount":1001}',
            "Invalid value for maxReceiveCount: 1001, valid values are from 1 to 1000 both inclusive.",
        ),
        (
            '{"deadLetterTargetArn":"arn:aws:sqs:queue","maxReceiveCount":1}',
            "Dead-letter target ARN should be fully qualified ARN.",
        ),
        # recorded: localstack's tests/aws/services/sqs/test_sqs.snapshot.json, November 2023
        ('{"deadLetterTargetArn":"queue","maxReceiveCount":1}', "Invalid value for deadLetterTargetArn."),
        (
            '{"deadLetterTargetArn":"%s","maxReceiveCount":1,"colour":"red"}',
            "Only following attributes are supported: [maxReceiveCount, deadLetterTargetArn].",
        ),
    ],
)
def test_a_redrive_policy_that_cannot_be_is_refused_with_its_reason(
    local: Sqs, policy: str, reason: str
) -> None:
    policy = policy.replace("%s", local.arn(local.queue()))
    assert error_of(
        local.client.create_queue, QueueName=fresh_name(), Attributes={"RedrivePolicy": policy}
    ) == ("InvalidParameterValue", f"Value {policy} for parameter RedrivePolicy is invalid. Reason: {reason}")


def test_a_page_is_of_what_its_token_was_given_for(local: Sqs) -> None:
    prefix = fresh_name()
    for number in range(3):
        local.queue(f"{prefix}-{number}")
    first = local.client.list_queues(QueueNamePrefix=prefix, MaxResults=2)
    token = first["NextToken"]
    rest = local.client.list_queues(QueueNamePrefix=prefix, MaxResults=2, NextToken=token)
    assert len(first["QueueUrls"] + rest["QueueUrls"]) == 3
    assert (
        "must not change the other request"
        in error_of(local.client.list_queues, QueueNamePrefix=prefix[:-1], MaxResults=2, NextToken=token)[1]
    )
    assert "MaxResults is a mandatory parameter" in error_of(local.client.list_queues, NextToken=token)[1]


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("http://sqs.eu-west-1.localhost:9324/000000000000/{}", "AWS.SimpleQueueService.NonExistentQueue"),
        ("https://eu-west-1.queue.amazonaws.com/000000000000/{}", "AWS.SimpleQueueService.NonExistentQueue"),
        ("http://sqs.us-east-1.localhost:9324", "InvalidAddress"),
        ("https://queue.amazonaws.com/", "InvalidAddress"),
    ],
)
def test_a_queue_url_names_account_and_region(local: Sqs, address: str, code: str) -> None:
    name = fresh_name()
    local.queue(name)
    ours = f"http://sqs.us-east-1.localhost:9324/000000000000/{name}"

    ask = local.client.get_queue_attributes
    assert ask(QueueUrl=ours)
    assert error_of(ask, QueueUrl=address.format(name))[0] == code


def test_characters_that_a_value_cannot_have_are_another_error_than_in_a_body(local: Sqs) -> None:
    attribute: Any = {"a": {"DataType": "String", "StringValue": "x\x08"}}
    code, message = error_of(
        local.client.send_message, QueueUrl=local.queue(), MessageBody="x", MessageAttributes=attribute
    )
    assert code == "InvalidParameterValue"
    assert "'#x8' was found in the message attribute 'a' value" in message


def test_what_is_no_arn_is_told_its_form(local: Sqs) -> None:
    for call in (local.client.start_message_move_task, local.client.list_message_move_tasks):
        code, message = error_of(call, SourceArn="queue")
        assert code == "InvalidParameterValue"
        assert message.startswith("You must use this format to specify the SourceArn: arn:<partition>:")


def test_a_queue_is_found_by_its_bare_name(local: Sqs) -> None:
    # tried on AWS: github.com/aws/aws-sdk-js-v3/pull/6337
    name = fresh_name()
    url = local.queue(name)
    local.send(name, "x")
    assert local.bodies(url) == ["x"]


def test_what_is_for_fifo_queues_alone_is_refused_in_awss_words(local: Sqs) -> None:
    # recorded: github.com/cdklabs/construct-hub/issues/905
    url = local.queue()
    reason = "invalid. Reason: The request include parameter that is not valid for this queue type."
    for call, more in (
        (local.client.send_message, {"MessageBody": "x", "MessageDeduplicationId": "d"}),
        (local.client.receive_message, {"ReceiveRequestAttemptId": "d"}),
    ):
        (name,) = more.keys() - {"MessageBody"}
        refused = error_of(call, QueueUrl=url, **more)
        assert refused == ("InvalidParameterValue", f"Value d for parameter {name} is {reason}")


def test_a_label_that_is_not_there_is_told_whether_there_is_a_policy(local: Sqs) -> None:
    url = local.queue()
    missing = "Value none for parameter Label is invalid. Reason: can't find label"
    remove = local.client.remove_permission
    assert error_of(remove, QueueUrl=url, Label="none") == ("InvalidParameterValue", f"{missing}.")
    local.client.add_permission(
        QueueUrl=url, Label="other", AWSAccountIds=["111122223333"], Actions=["SendMessage"]
    )
    assert error_of(remove, QueueUrl=url, Label="none")[1] == f"{missing} on existing policy."


def statements(count: int) -> str:
    one = {"Effect": "Allow", "Principal": "*", "Action": "SQS:SendMessage", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [one] * count})


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ("[]", "InvalidAttributeValue"),
        ('"text"', "InvalidAttributeValue"),
        ("{", "InvalidAttributeValue"),
        (json.dumps({"Id": "x" * 8192}), "InvalidAttributeValue"),
        (statements(21), "OverLimit"),
    ],
    ids=["list", "text", "no JSON", "long", "many"],
)
def test_a_policy_is_within_its_quotas(local: Sqs, policy: str, code: str) -> None:
    # 8,192 bytes and 20 statements: quotas-policies.html of the developer guide
    url = local.queue(Policy=statements(20))
    set_them = local.client.set_queue_attributes
    assert error_of(set_them, QueueUrl=url, Attributes={"Policy": policy})[0] == code
    more: Any = {"AWSAccountIds": ["111122223333"], "Actions": ["SendMessage"]}
    assert error_of(local.client.add_permission, QueueUrl=url, Label="l", **more)[0] == "OverLimit"


@pytest.mark.parametrize(
    "tags",
    [
        {"": "v"},
        {"k" * 129: "v"},
        {"k": "v" * 257},
        {"aws:k": "v"},
        {"k": "aws:v"},
        {"k!": "v"},
        {"k": "v\x01"},
        {str(number): "v" for number in range(51)},
    ],
)
def test_tags_are_within_their_quotas_from_the_start(local: Sqs, tags: dict[str, str]) -> None:
    # quotas-queues.html of the developer guide
    url = local.queue()
    for call, more in (
        (local.client.tag_queue, {"QueueUrl": url, "Tags": tags}),
        (local.client.create_queue, {"QueueName": fresh_name(), "tags": tags}),
    ):
        assert error_of(call, **more)[0] == "InvalidParameterValue"
    longest = {"k" * 128: "v" * 256, "größe 1_.:/=+-@": ""}
    local.client.tag_queue(QueueUrl=url, Tags=longest)
    assert local.client.list_queue_tags(QueueUrl=url)["Tags"] == longest


def dead_letters(local: Sqs, *, fifo: bool = False) -> tuple[str, str]:
    make = local.fifo if fifo else local.queue
    dead = make()
    policy = json.dumps({"deadLetterTargetArn": local.arn(dead), "maxReceiveCount": 1})
    return make(VisibilityTimeout=0, RedrivePolicy=policy), dead


def test_a_fifo_dead_letter_is_deduplicated_by_its_message_id(local: Sqs) -> None:
    # "the original message's deduplication ID will be replaced with the original message's ID":
    # sqs-configure-dead-letter-queue-redrive.html of the developer guide
    url, dead = dead_letters(local, fifo=True)
    (sent,) = local.send_fifo(url, "g", "x")
    while local.receive(url):
        pass
    (letter,) = local.receive(dead, AttributeNames=["All"])
    assert letter["MessageId"] == letter["Attributes"]["MessageDeduplicationId"] == sent["MessageId"]


def test_a_message_sent_to_a_dead_letter_queue_has_nowhere_to_go_back_to(local: Sqs) -> None:
    # troubleshooting-dlq-redrive.html of the developer guide
    _, dead = dead_letters(local)
    local.send(dead, "direct")
    local.client.start_message_move_task(SourceArn=local.arn(dead), DestinationArn="")
    (task,) = local.client.list_message_move_tasks(SourceArn=local.arn(dead))["Results"]
    assert (task["Status"], task["FailureReason"]) == ("FAILED", "CouldNotDetermineMessageSource")
    assert local.bodies(dead) == ["direct"]


def test_dead_letters_move_to_another_queue_of_the_same_type(local: Sqs) -> None:
    # "you can also configure any other queue as the redrive destination if both queues are the same type":
    # sqs-configure-dead-letter-queue-redrive.html of the developer guide
    _, dead = dead_letters(local)
    start = local.client.start_message_move_task
    for other in (local.fifo(), dead):
        code, _ = error_of(start, SourceArn=local.arn(dead), DestinationArn=local.arn(other))
        assert code == "InvalidParameterValue"
