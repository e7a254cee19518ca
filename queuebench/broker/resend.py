"""List the dead letters, and send them again.

A letter is sent first and forgotten then: what is interrupted in between is sent twice, never lost. A MiB of
letters is held at a time, or one that is larger.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial

from queuebench import settings as settings_module
from queuebench.broker.broker import Broker, Use
from queuebench.broker.dead_letters import DeadLetter
from queuebench.broker.own_keys import refuse_shared
from queuebench.errors import MessageError, QueueError, TryLater, Unreachable
from queuebench.message import decode
from queuebench.plumbing.outage import GIVE_UP_SECONDS, Outage, persist
from queuebench.plumbing.printable import printable
from queuebench.queues import Queue, open_queue

SHOWN_CHARACTERS = 100
REFUSALS = 10
PAUSE_SECONDS = 0.5
ROLE = "queuebench dead-letters"


def main(argv: list[str]) -> int:
    """List or resend; return 0, or 1 where letters stay that were to be sent.

    Raises:
        QueueError: the broker or the queue cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m queuebench dead-letters",
        description="What was given up, oldest first, with the reason. `resend` sends messages through the "
        "queue that QUEUE names, and tasks into their Celery queue; what can't be read stays.",
    )
    parser.add_argument("action", nargs="?", choices=("list", "resend"), default="list")
    options = parser.parse_args(argv)
    settings = settings_module.load()
    broker = Broker(settings.redis_celery_url)
    use: Use = "list" if options.action == "list" else "resend"
    persist(Outage(ROLE, "the broker"), "start", lambda: broker.check(use), GIVE_UP_SECONDS, TryLater)
    if options.action == "list":
        return _list(broker)
    refuse_shared(settings)
    queue = open_queue(settings.queue, settings.options())
    try:
        return _resend(broker, queue, settings.queue_label)
    finally:
        queue.close()


def _list(broker: Broker) -> int:
    count = 0
    for record in broker.dead_letters():
        count += 1
        print(line_of(record))
    print(f"{count:,} dead letters" + (": `dead-letters resend` sends them again" if count else ""))
    return 0


def line_of(record: bytes) -> str:
    """Return a dead letter as one line of visible characters."""
    try:
        letter = DeadLetter.decode(record)
    except MessageError as error:
        return f"{error}: {_start(record)}"
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(letter.at))
    name = f" {printable(letter.id)}" if letter.id else ""
    return f"{at} {printable(letter.kind)}{name}: {printable(letter.reason)}: {_start(letter.body)}"


def _start(body: bytes) -> str:
    text = printable(body[: 4 * SHOWN_CHARACTERS].decode(errors="backslashreplace"))
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def _resend(broker: Broker, queue: Queue, label: str) -> int:
    """Send what was there at the start, each letter once: one that dies again is not sent again now."""
    at_broker, at_queue = Outage(ROLE, "the broker"), Outage(ROLE, f"the queue ({label})")

    def check() -> None:
        queue.try_rights("send")
        queue.check()

    count = persist(at_broker, "count", broker.count_dead_letters, GIVE_UP_SECONDS)
    if count:
        persist(at_queue, "start", check, GIVE_UP_SECONDS, TryLater)
    stayed = 0
    for number in range(1, count + 1):
        read = partial(_record_at, broker, stayed)
        record = persist(at_broker, "read", read, GIVE_UP_SECONDS)
        if record is None:
            break
        try:
            letter = DeadLetter.decode(record)
            if letter.kind == "task":
                put = partial(broker.put_task, letter.body, letter.id)
                persist(at_broker, "send", put, GIVE_UP_SECONDS)
            else:
                decode(letter.body)
                persist(at_queue, "send", partial(_publish, queue, letter, number), GIVE_UP_SECONDS)
        except Unreachable:
            raise
        except (MessageError, QueueError) as error:
            stayed += 1
            print(f"stays: {line_of(record)}: {printable(str(error))}", file=sys.stderr)
        else:
            forget = partial(broker.forget_dead_letter, record)
            persist(at_broker, "forget", forget, GIVE_UP_SECONDS)
    print(f"{count - stayed:,} of {count:,} dead letters sent again: messages to {label}, tasks to Celery")
    return 1 if stayed else 0


def _record_at(broker: Broker, position: int) -> bytes | None:
    return next(broker.dead_letters(position, position), None)


def _publish(queue: Queue, letter: DeadLetter, number: int) -> None:
    """Send one message; after an answer that never came, the same again.

    Raises:
        MessageError: the queue does not accept it.
        Unreachable: no answer; call again.
    """
    for _ in range(REFUSALS):
        if not queue.publish([letter.body], 0, number):
            return
        time.sleep(PAUSE_SECONDS)
    raise MessageError("the queue does not accept it")
