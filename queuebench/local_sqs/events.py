"""The events that rebuild every queue: what is written to the log, one list each."""

from typing import Any

from queuebench.local_sqs.message import Message
from queuebench.local_sqs.queue import Queue

Event = list[Any]


def queue_event(queue: Queue) -> Event:
    """Make the event of a queue that is new or was changed."""
    return [
        "queue", queue.name, queue.incarnation, queue.attributes, queue.tags, queue.created_at,
        queue.modified_at, queue.next_n,
    ]  # fmt: skip


def send_event(queue: Queue, m: Message, *, moved: bool = False) -> Event:
    """Make the event of a message that was sent to a queue, or that comes from another one."""
    kind = "move" if moved else "send"
    return [
        kind, queue.name, m.n, m.id, m.body, m.sent_at, m.due, m.group, m.dedup_id, m.extras,
        m.receive_count, m.moved_count, m.first_received_at, m.received_at,
    ]  # fmt: skip


def message_of(event: Event) -> Message:
    """Return the message of a `send_event`."""
    (_, _, n, id, body, sent_at, due, group, dedup_id, extras, receive_count, moved_count, first, at) = event
    message = Message(id, body, sent_at=sent_at, group=group, dedup_id=dedup_id, extras=extras)
    message.n = n
    message.due = due
    message.receive_count = receive_count
    message.moved_count = moved_count
    message.first_received_at = first
    message.received_at = at
    return message
