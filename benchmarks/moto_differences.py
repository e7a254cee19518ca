"""Where moto's SQS is not as AWS's: what it does, and AWS's word on it.

Data for `python -m benchmarks.local_sqs --part differences`, which runs the tests against moto and says
what of this table holds, what moto has mended, and what is missing in it. Nothing fails by it.
"""

API = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/"
GUIDE = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/"

# test of tests/test_local_sqs.py, without test_ → (what moto does, what AWS documents or answered)
DIFFERENCES: dict[str, tuple[str, str]] = {
    "a_timeout_that_ended_is_not_changed_and_nothing_is_said": (
        "hides the message anew",
        "tried on AWS: it answers OK and does nothing (github.com/localstack/localstack/pull/9632)",
    ),
    "one_message_that_comes_back_is_locked_by_those_ahead_of_it_alone": (
        "locks the whole group",
        f"{GUIDE}FIFO-queues-understanding-logic.html: messages are given in the order in which they were "
        "sent, and what is visible ahead of all that is in flight is next",
    ),
    "creating_twice_with_other_attributes_is_refused": (
        "does not name the attribute",
        "recorded: A queue already exists with the same name and a different value for attribute …",
    ),
    "the_fifo_suffix_needs_a_fifo_queue": (
        "takes the name",
        f"{API}API_CreateQueue.html: the name of a FIFO queue must end with .fifo, and of a standard queue "
        "has alphanumeric characters, hyphens and underscores only",
    ),
    "attributes_outside_their_range_are_refused": (
        "checks MaximumMessageSize alone, and answers 500 to what is no number",
        f"{API}API_SetQueueAttributes.html: valid values",
    ),
    "setting_unknown_attributes_is_refused": (
        "keeps them",
        f"{API}API_CreateQueue.html: InvalidAttributeName",
    ),
    "a_new_queue_has_awss_defaults": (
        "CreatedTimestamp has a fraction",
        f"{API}API_GetQueueAttributes.html: epoch time in seconds",
    ),
    "a_deleted_queues_name_is_free_after_60_seconds": (
        "takes the name at once",
        f"{API}API_CreateQueue.html: QueueDeletedRecently",
    ),
    "forbidden_characters_are_refused": (
        "takes them",
        f"{API}API_SendMessage.html: InvalidMessageContents",
    ),
    "lone_surrogates_are_refused": (
        "answers 500",
        f"{API}API_SendMessage.html: InvalidMessageContents",
    ),
    "an_empty_body_is_refused": (
        "takes it",
        f"{API}API_SendMessage.html: the minimum size is one character",
    ),
    "the_size_of_a_message_is_in_bytes_and_has_its_attributes_in_it": (
        "counts characters of the body",
        f"{GUIDE}quotas-messages.html: the size includes message attributes, in bytes",
    ),
    "message_attributes_outside_the_rules_are_refused": (
        "checks characters of the name and the type alone",
        f"{GUIDE}sqs-message-metadata.html: message attribute components",
    ),
    "timeouts_outside_0_to_12_hours_are_refused": (
        "takes negative ones",
        f"{API}API_ChangeMessageVisibility.html: values 0 to 43200",
    ),
    "delays_outside_0_to_15_minutes_are_refused": (
        "takes negative ones",
        f"{API}API_SendMessage.html: valid values 0 to 900",
    ),
    "a_receive_takes_one_to_ten": (
        "has the client's prefix in the message",
        "recorded: Value 11 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and "
        "10, if provided.",
    ),
    "a_receive_waits_at_most_20_seconds": (
        "has the client's prefix and reversed comparisons in the message",
        "recorded: Reason: Must be >= 0 and <= 20, if provided.",
    ),
    "an_old_receipt_handle_succeeds_and_deletes_nothing": (
        "deletes by any handle that the message ever had",
        f"{API}API_DeleteMessage.html: with an old handle the request succeeds, but the message might not "
        "be deleted",
    ),
    "a_deleted_messages_timeout_cannot_be_changed": (
        "calls the handle invalid",
        "recorded: Message does not exist or is not available for visibility timeout change.",
    ),
    "batches_outside_the_rules_are_refused_as_a_whole": (
        "counts the ids before the entries",
        "recorded: Maximum number of entries per request are 10. You have sent 20.",
    ),
    "one_bad_entry_fails_alone": (
        "sends the bad entry",
        f"{API}API_SendMessageBatch.html: the result of each message is reported individually",
    ),
    "a_dead_letter_says_where_it_came_from": (
        "has no DeadLetterQueueSourceArn",
        f"{API}API_Message.html and the service model: DeadLetterQueueSourceArn",
    ),
    "redrive_policies_that_lack_something_are_refused": (
        "takes an empty one, answers 500 to what is no object",
        f"{API}API_SetQueueAttributes.html: RedrivePolicy has deadLetterTargetArn and maxReceiveCount",
    ),
    "a_dead_letter_comes_after_1_to_1000_receives": (
        "takes any number, answers 500 to what is none",
        f"{GUIDE}sqs-configure-dead-letter-queue.html: maximum receives, 1 to 1,000",
    ),
    "a_dead_letter_queue_is_of_the_same_type": (
        "takes a FIFO queue for a standard one",
        f"{API}API_SetQueueAttributes.html: the dead-letter queue of a standard queue must be standard",
    ),
    "a_queue_may_refuse_to_be_a_dead_letter_queue": (
        "keeps RedriveAllowPolicy without effect",
        f"{API}API_SetQueueAttributes.html: denyAll",
    ),
    "what_comes_back_keeps_its_place": (
        "may give the message behind first",
        f"{GUIDE}FIFO-queues-understanding-logic.html: order within a group is kept",
    ),
    "sequence_numbers_grow": (
        "draws them at random",
        f"{API}API_SendMessage.html: SequenceNumber continues to increase for a particular MessageGroupId",
    ),
    "a_duplicate_of_a_deleted_message_is_not_delivered": (
        "compares with what waits alone",
        f"{GUIDE}using-messagededuplicationid-property.html: tracked for 5 minutes even after it is deleted",
    ),
    "a_duplicate_is_told_of_the_first_one": (
        "makes a new id up",
        "not documented; an id that no message has would be of no use",
    ),
    "deduplication_may_be_per_group": (
        "keeps DeduplicationScope without effect",
        f"{API}API_SetQueueAttributes.html: DeduplicationScope",
    ),
    "a_batch_without_groups_fails_as_a_whole": (
        "has the code of a single message",
        "recorded: InvalidParameterValue, The request must contain the parameter MessageGroupId.",
    ),
    "a_standard_queue_takes_groups_but_no_deduplication_ids": (
        "takes a deduplication id, or locks the group of a standard queue",
        f"{API}API_SendMessage.html: MessageDeduplicationId applies only to FIFO queues",
    ),
    "group_ids_outside_the_syntax_are_refused": (
        "takes any",
        f"{API}API_SendMessage.html: 128 characters, alphanumeric and punctuation",
    ),
    "an_expired_handle_of_a_fifo_queue_is_refused": (
        "deletes by it",
        "recorded: The receipt handle has expired.",
    ),
    "a_repeated_receive_attempt_gets_the_same_messages": (
        "ignores ReceiveRequestAttemptId",
        f"{API}API_ReceiveMessage.html: subsequent calls return the same messages and receipt handles",
    ),
    "high_throughput_needs_the_matching_deduplication_scope": (
        "takes any combination",
        f"{API}API_SetQueueAttributes.html: perMessageGroupId only with DeduplicationScope messageGroup",
    ),
    "a_queues_type_cannot_be_changed": (
        "changes it",
        "recorded: Modifying queue type is not supported. / Unknown Attribute FifoQueue.",
    ),
}
