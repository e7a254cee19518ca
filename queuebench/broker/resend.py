"""List the dead letters, and send them again.

A letter is sent first and forgotten then: what is interrupted in between is sent twice, never lost. A MiB of
letters is held at a time, or one that is larger.
"""

from __future__ import annotations

import argparse
import sys
import time

from queuebench import settings as settings_module
from queuebench.broker.broker import Broker
from queuebench.broker.dead_letters import DeadLetter
from queuebench.errors import MessageError, QueueError, Unreachable
from queuebench.message import decode
from queuebench.plumbing.printable import printable
from queuebench.queues import Queue, open_queue

SHOWN_CHARACTERS = 100
SEND_TRIES = 10
PAUSE_SECONDS = 0.5


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
    if options.action == "list":
        return _list(broker)
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
    count = broker.count_dead_letters()
    if count:
        queue.check()
    stayed = 0
    for number in range(1, count + 1):
        record = next(broker.dead_letters(stayed, stayed), None)
        if record is None:
            break
        try:
            _send(broker, queue, record, number)
        except MessageError as error:
            stayed += 1
            print(f"stays: {line_of(record)}: {printable(str(error))}", file=sys.stderr)
        else:
            broker.forget_dead_letter(record)
    print(f"{count - stayed:,} of {count:,} dead letters sent again: messages to {label}, tasks to Celery")
    return 1 if stayed else 0


def _send(broker: Broker, queue: Queue, record: bytes, number: int) -> None:
    """Send one letter; after an answer that never came, the same again.

    Raises:
        MessageError: it can't be sent; the text is the reason.
        Unreachable: no answer, several times.
    """
    letter = DeadLetter.decode(record)
    if letter.kind == "message":
        decode(letter.body)
    for left in reversed(range(SEND_TRIES)):
        try:
            if letter.kind == "task":
                broker.put_task(letter.body, letter.id)
                return
            if not queue.publish([letter.body], 0, number):
                return
        except Unreachable:
            if not left:
                raise
        except QueueError as error:
            raise MessageError(str(error)) from None
        time.sleep(PAUSE_SECONDS)
    raise MessageError("the queue does not accept it")
