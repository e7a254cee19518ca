"""Cases: queues, their attributes, tags and permissions."""

import json
import uuid

from benchmarks.sqs_cases.asking import FIFO, Asked, case, refused


@case(
    "CreateQueue",
    "the CreateQueue action will return the URL of the existing queue instead of creating a new one",
)
def the_same_queue_twice_is_one(sqs: Asked) -> None:
    name = f"case-{uuid.uuid4().hex}"
    urls = {
        sqs.client.create_queue(QueueName=name, Attributes={"DelaySeconds": "3"})["QueueUrl"] for _ in "ab"
    }
    assert len(urls) == 1


@case("CreateQueue", "with different attribute names or values, the CreateQueue action will return an error")
def another_value_is_refused(sqs: Asked) -> None:
    name = f"case-{uuid.uuid4().hex}"
    sqs.client.create_queue(QueueName=name, Attributes={"DelaySeconds": "3"})
    refused(sqs.client.create_queue, QueueName=name, Attributes={"DelaySeconds": "4"})


@case("CreateQueue", "you must wait at least 60 seconds before creating a queue with the same name")
def a_deleted_queues_name_is_not_free_at_once(sqs: Asked) -> None:
    name = f"case-{uuid.uuid4().hex}"
    url = sqs.client.create_queue(QueueName=name)["QueueUrl"]
    sqs.client.delete_queue(QueueUrl=url)
    refused(sqs.client.create_queue, "QueueDeletedRecently", QueueName=name)


@case(
    "CreateQueueRequest.QueueName",
    "Valid values: alphanumeric characters, hyphens ( - ), and underscores ( _ ).",
)
def names_have_letters_digits_hyphens_and_underscores(sqs: Asked) -> None:
    for name in ("a b", "a.b", "ä", "x" * 81):
        refused(sqs.client.create_queue, QueueName=name)


@case("CreateQueueRequest.QueueName", "A FIFO queue name must end with the .fifo suffix.")
def a_fifo_queue_has_its_suffix(sqs: Asked) -> None:
    refused(sqs.client.create_queue, QueueName=f"c-{uuid.uuid4().hex}", Attributes={"FifoQueue": "true"})


@case(
    "SetQueueAttributesRequest.Attributes", "Valid values: An integer from 0 to 900 (15 minutes). Default: 0."
)
def a_queues_delay_is_0_to_900(sqs: Asked) -> None:
    assert sqs.attribute(sqs.queue(), "DelaySeconds") == "0"
    for value in ("-1", "901", "soon"):
        refused(
            sqs.client.create_queue, QueueName=f"c-{uuid.uuid4().hex}", Attributes={"DelaySeconds": value}
        )


@case(
    "SetQueueAttributesRequest.Attributes",
    "Valid values: An integer from 1,024 bytes (1 KiB) up to 1,048,576 bytes (1 MiB). Default: "
    "1,048,576 bytes (1 MiB).",
)
def a_messages_largest_size_is_1_kib_to_1_mib(sqs: Asked) -> None:
    url = sqs.queue()
    assert sqs.attribute(url, "MaximumMessageSize") == "1048576"
    for value in ("1023", "1048577"):
        refused(sqs.client.set_queue_attributes, QueueUrl=url, Attributes={"MaximumMessageSize": value})


@case(
    "SetQueueAttributesRequest.Attributes",
    "from 60 (1 minute) to 1,209,600 (14 days). Default: 345,600 (4 days)",
)
def retention_is_a_minute_to_14_days(sqs: Asked) -> None:
    url = sqs.queue()
    assert sqs.attribute(url, "MessageRetentionPeriod") == "345600"
    for value in ("59", "1209601"):
        refused(sqs.client.set_queue_attributes, QueueUrl=url, Attributes={"MessageRetentionPeriod": value})


@case(
    "SetQueueAttributesRequest.Attributes",
    "Valid values: An integer from 0 to 43,200 (12 hours). Default: 30.",
)
def a_queues_visibility_timeout_is_0_to_12_hours(sqs: Asked) -> None:
    url = sqs.queue()
    assert sqs.attribute(url, "VisibilityTimeout") == "30"
    refused(sqs.client.set_queue_attributes, QueueUrl=url, Attributes={"VisibilityTimeout": "43201"})


@case("ListQueues", "only queues with a name that begins with the specified value are returned")
def queues_are_listed_by_prefix(sqs: Asked) -> None:
    url, _ = sqs.queue(), sqs.queue()
    prefix = url.rpartition("/")[2][:20]
    assert sqs.client.list_queues(QueueNamePrefix=prefix)["QueueUrls"] == [url]


@case(
    "ListQueues",
    "If you set MaxResults and there are additional results to display, the response includes "
    "a value for NextToken",
)
def queues_are_listed_in_pages(sqs: Asked) -> None:
    for _ in range(3):
        sqs.queue()
    first = sqs.client.list_queues(QueueNamePrefix="case-", MaxResults=2)
    assert len(first["QueueUrls"]) == 2
    rest = sqs.client.list_queues(QueueNamePrefix="case-", MaxResults=1000, NextToken=first["NextToken"])
    assert rest["QueueUrls"] and not set(rest["QueueUrls"]) & set(first["QueueUrls"])


@case("ListQueues", "Set parameter MaxResults in the request to specify the maximum number of results")
def a_page_has_1_to_1000_queues(sqs: Asked) -> None:
    for most in (0, 1001):
        refused(sqs.client.list_queues, MaxResults=most)


@case("GetQueueUrlRequest.QueueName", "Queue URLs and names are case-sensitive.")
def a_name_in_another_case_is_another_name(sqs: Asked) -> None:
    name = sqs.queue().rpartition("/")[2]
    refused(sqs.client.get_queue_url, "NonExistentQueue", QueueName=name.upper())


@case("GetQueueUrlRequest.QueueOwnerAWSAccountId", "The Amazon Web Services account ID of the account that")
def a_queue_of_another_account_is_not_there(sqs: Asked) -> None:
    name = sqs.queue().rpartition("/")[2]
    refused(
        sqs.client.get_queue_url, "NonExistentQueue", QueueName=name, QueueOwnerAWSAccountId="111122223333"
    )


@case("GetQueueAttributesRequest.AttributeNames", "the request returns empty results")
def without_names_no_attribute_is_told(sqs: Asked) -> None:
    assert not sqs.client.get_queue_attributes(QueueUrl=sqs.queue()).get("Attributes")


@case("InvalidAttributeName", "The specified attribute doesn't exist.")
def an_attribute_that_does_not_exist_is_refused(sqs: Asked) -> None:
    url = sqs.queue()
    names = ["Colour"]
    refused(sqs.client.get_queue_attributes, "InvalidAttributeName", QueueUrl=url, AttributeNames=names)
    values = {"QueueArn": "arn:aws:sqs:us-east-1:000000000000:x"}
    refused(sqs.client.set_queue_attributes, "InvalidAttributeName", QueueUrl=url, Attributes=values)


@case("GetQueueAttributesRequest.AttributeNames", "in seconds ( epoch time )")
def times_of_a_queue_are_whole_seconds(sqs: Asked) -> None:
    url = sqs.queue()
    for name in ("CreatedTimestamp", "LastModifiedTimestamp"):
        assert 1_700_000_000 < int(sqs.attribute(url, name) or "") < 20_000_000_000


@case("SetQueueAttributesRequest.Attributes", "from 0 to 20 (seconds). Default: 0.")
def a_queues_wait_is_0_to_20_seconds(sqs: Asked) -> None:
    url = sqs.queue()
    assert sqs.attribute(url, "ReceiveMessageWaitTimeSeconds") == "0"
    for value in ("21", "-1", "1.5"):
        attributes = {"ReceiveMessageWaitTimeSeconds": value}
        refused(sqs.client.set_queue_attributes, QueueUrl=url, Attributes=attributes)


@case("CreateQueueRequest.Attributes", "You can't change it for an existing queue.")
def a_queues_type_stays(sqs: Asked) -> None:
    refused(sqs.client.set_queue_attributes, QueueUrl=sqs.queue(), Attributes={"FifoQueue": "true"})
    refused(sqs.client.set_queue_attributes, QueueUrl=sqs.queue(**FIFO), Attributes={"FifoQueue": "false"})


@case("CreateQueueRequest.Attributes", "Only one server-side encryption option is supported per queue")
def a_queue_has_one_kind_of_encryption(sqs: Asked) -> None:
    both = {"KmsMasterKeyId": "alias/a", "SqsManagedSseEnabled": "true"}
    refused(sqs.client.create_queue, QueueName=f"c-{uuid.uuid4().hex}", Attributes=both)
    assert sqs.attribute(sqs.queue(KmsMasterKeyId="alias/a"), "SqsManagedSseEnabled") == "false"


@case("CreateQueueRequest.Attributes", "between 60 seconds (1 minute) and 86,400 seconds (24 hours)")
def a_data_key_is_used_for_a_minute_to_a_day(sqs: Asked) -> None:
    for value in ("59", "86401"):
        attributes = {"KmsMasterKeyId": "alias/a", "KmsDataKeyReusePeriodSeconds": value}
        refused(sqs.client.create_queue, QueueName=f"c-{uuid.uuid4().hex}", Attributes=attributes)


@case(
    "CreateQueueRequest.Attributes",
    "The perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup .",
)
def high_throughput_needs_deduplication_by_group(sqs: Asked) -> None:
    wrong = {"FifoQueue": "true", "FifoThroughputLimit": "perMessageGroupId"}
    refused(sqs.client.create_queue, QueueName=f"c-{uuid.uuid4().hex}.fifo", Attributes=wrong)
    sqs.queue(**FIFO, FifoThroughputLimit="perMessageGroupId", DeduplicationScope="messageGroup")


@case("DeleteQueue", "regardless of the queue's contents")
def a_queue_is_deleted_with_what_is_in_it(sqs: Asked) -> None:
    url = sqs.queue()
    sqs.send(url)
    sqs.client.delete_queue(QueueUrl=url)
    refused(sqs.send, "NonExistentQueue", url=url)


@case("TagQueue", "A new tag with a key identical to that of an existing tag overwrites the existing tag.")
def tags_are_overwritten_and_removed(sqs: Asked) -> None:
    url = sqs.queue()
    for tags in ({"a": "1", "b": ""}, {"a": "2", "A": "3"}):
        sqs.client.tag_queue(QueueUrl=url, Tags=tags)
    assert sqs.client.list_queue_tags(QueueUrl=url)["Tags"] == {"a": "2", "b": "", "A": "3"}
    sqs.client.untag_queue(QueueUrl=url, TagKeys=["a", "A", "b", "c"])
    assert not sqs.client.list_queue_tags(QueueUrl=url).get("Tags")


@case("AddPermission", "AddPermission generates a policy for you.")
def a_permission_is_a_statement_of_the_policy(sqs: Asked) -> None:
    url = sqs.queue()
    granted = {"AWSAccountIds": ["111122223333"], "Actions": ["SendMessage"]}
    sqs.client.add_permission(QueueUrl=url, Label="them", **granted)
    (statement,) = json.loads(sqs.attribute(url, "Policy") or "")["Statement"]
    assert (statement["Sid"], statement["Effect"]) == ("them", "Allow")
    sqs.client.remove_permission(QueueUrl=url, Label="them")
    assert sqs.attribute(url, "Policy") is None
    refused(sqs.client.remove_permission, QueueUrl=url, Label="them")


@case("AddPermission", "An Amazon SQS policy can have a maximum of seven actions per statement.")
def a_statement_has_at_most_seven_actions(sqs: Asked) -> None:
    actions = [
        "ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "GetQueueUrl",
        "ListDeadLetterSourceQueues", "PurgeQueue", "ReceiveMessage", "SendMessage",
    ]  # fmt: skip
    ask = {"QueueUrl": sqs.queue(), "AWSAccountIds": ["111122223333"]}
    sqs.client.add_permission(Label="seven", Actions=actions[:7], **ask)
    refused(sqs.client.add_permission, "OverLimit", Label="eight", Actions=actions, **ask)


@case("AddPermissionRequest.Label", "Maximum 80 characters.")
def a_label_is_short_and_unique(sqs: Asked) -> None:
    ask = {"QueueUrl": sqs.queue(), "AWSAccountIds": ["111122223333"], "Actions": ["*"]}
    sqs.client.add_permission(Label="x" * 80, **ask)
    for label in ("x" * 80, "x" * 81, "a b"):
        refused(sqs.client.add_permission, Label=label, **ask)
