"""An engine as events, and back: what the log is written anew with, and what a start reads."""

from collections.abc import Iterator

from queuebench.local_sqs.engine import Engine
from queuebench.local_sqs.events import Event, message_of, queue_event, send_event
from queuebench.local_sqs.fifo import FifoQueue
from queuebench.local_sqs.message import Message


def snapshot_size(engine: Engine) -> int:
    """Return about how many events `snapshot` yields."""
    return sum(1 + queue.snapshot_size() for queue in engine.queues.values())


def snapshot(engine: Engine) -> Iterator[Event]:
    """Yield the events that rebuild everything as it is now."""
    for name, at in engine.deleted_at.items():
        yield ["gone", name, at]
    for queue in engine.queues.values():
        yield queue_event(queue)
        if isinstance(queue, FifoQueue):
            for key, (at, id, n) in queue.recent():
                yield ["dup", queue.name, key, at, id, n]
        for message in queue.messages():
            yield send_event(queue, message, moved=True)


class Replay:
    """Takes events back into an empty engine: `take` each in its order, then `finish`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._messages: dict[str, dict[int, Message]] = {}

    def take(self, event: Event) -> None:
        """Take one event back.

        Raises:
            KeyError, IndexError, TypeError, ValueError: it is not an event of this engine.
        """
        engine = self._engine
        kind, name = event[0], event[1]
        if kind == "queue":
            _, _, incarnation, attributes, tags, created_at, modified_at, next_n = event
            queue = engine.queues.get(name)
            if queue is None or queue.incarnation != incarnation:
                queue = engine.new_queue(name, incarnation, attributes, tags, created_at)
                self._messages[name] = {}
            queue.configure(attributes, modified_at)
            queue.tags = tags
            queue.next_n = max(queue.next_n, next_n)
        elif kind == "gone":
            engine.queues.pop(name, None)
            self._messages.pop(name, None)
            engine.deleted_at[name] = event[2]
        elif kind == "purge":
            queue = engine.queues[name]
            queue.purged_at = event[2]
            queue.clear()
            self._messages[name].clear()
        elif kind == "dup":
            key = tuple(event[2]) if isinstance(event[2], list) else event[2]
            queue = engine.queues[name]
            assert isinstance(queue, FifoQueue)
            queue.remember(key, event[3], event[4], event[5])
        elif kind in ("send", "move"):
            message = message_of(event)
            queue = engine.queues[name]
            queue.next_n = max(queue.next_n, message.n + 1)
            self._messages[name][message.n] = message
            if isinstance(queue, FifoQueue) and message.dedup_id and kind == "send":
                key = queue.dedup_key(message.group, message.dedup_id)
                queue.remember(key, message.sent_at, message.id, message.n)
        else:
            self._take_change(kind, event, self._messages[name])

    @staticmethod
    def _take_change(kind: str, event: Event, messages: dict[int, Message]) -> None:
        if kind == "del":
            for n in event[2]:
                messages.pop(n, None)
        elif kind == "recv":
            _, _, taken, at, due, _ = event
            for n in taken:
                message = messages[n]
                message.receive_count += 1
                message.received_at = at
                message.due = due
                if message.first_received_at is None:
                    message.first_received_at = at
        elif kind == "hide":
            for n, due in event[2]:
                messages[n].due = due
        else:
            raise ValueError(f"unknown kind of event {kind!r}")

    def finish(self, now: float) -> None:
        """Put the messages where they belong at this time."""
        engine = self._engine
        for name, messages in self._messages.items():
            engine.queues[name].restore((messages[n] for n in sorted(messages)), now)
        self._messages = {}
        engine.deleted_at = {
            name: at for name, at in engine.deleted_at.items() if now - at < 60 and name not in engine.queues
        }
