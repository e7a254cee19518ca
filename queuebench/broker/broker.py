"""Celery's broker: all that touches how Celery keeps its tasks in Redis is here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.utils import json as kombu_json

from queuebench.broker import dead_letters, transport
from queuebench.broker.dead_letters import DeadLetter
from queuebench.broker.transport import rights
from queuebench.errors import MessageError, QueueError, Unreachable
from queuebench.plumbing.redis_client import MARKER_SECONDS, address, connect, explained, largest_fetched
from queuebench.plumbing.redis_rights import NOWHERE, Needs, key, require, together
from queuebench.queues.base import Depth

CELERY_QUEUE = "celery"
OPEN_RUN = "open_run"
Use = Literal["hand over", "work", "drain", "look", "list", "resend"]

PAGE_BYTES = 1024 * 1024

# As many records as fit, and at least one; a record's body is its last key.
_PAGE = """
local first, last, room, largest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if largest > 0 then room = math.min(room, math.floor(largest / 2)) end
local page = {}
while first <= last do
  local some = redis.call('LRANGE', KEYS[1], first, math.min(first + 9, last))
  for _, record in ipairs(some) do
    if largest > 0 and #record > largest then
      local start = string.sub(record, 1, math.floor(largest / 2))
      local body = string.find(start, ',"body', 1, true)
      record = body and string.sub(start, 1, body - 1) .. ',"body":""}' or ''
    end
    if #page > 0 and #record > room then return page end
    room = room - #record
    page[#page + 1] = record
  end
  if #some < 10 then return page end
  first = first + 10
end
return page
"""

_ADD_ONCE = """
if tonumber(redis.call('GET', KEYS[2]) or '0') >= tonumber(ARGV[1]) then return 0 end
for i = 3, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
return 1
"""


class Broker:
    """The Redis at `REDIS_CELERY_URL`; each call costs the same however much waits there."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.client = connect(url)
        self._largest: int | None = None  # asked again after each failure: that may have been the reason

    def check(self, use: Use, queues: Sequence[str] = (CELERY_QUEUE,)) -> None:
        """Raise unless the broker answers, and lets its user do what a role has to.

        Raises:
            QueueError: it does not.
        """
        require(self.client, self._needs(use, queues))

    def _needs(self, use: Use, queues: Sequence[str]) -> Needs:
        letters, counting = key(dead_letters.KEY), rights.to_count(CELERY_QUEUE)
        if use == "work":
            db = int(self.client.connection_pool.connection_kwargs.get("db") or 0)
            return rights.to_work(queues, dead_letters.KEY, db)
        if use == "drain":
            return {key(f"{CELERY_QUEUE}*", CELERY_QUEUE): "RPOP"}
        if use == "list":
            return {letters: "EVAL LRANGE"}
        if use == "resend":
            return together(rights.to_put(CELERY_QUEUE), {letters: "EVAL LLEN LRANGE LREM"})
        if use == "look":
            return together(counting, {letters: "EVAL LLEN LRANGE", key(OPEN_RUN): "GET SET"})
        broken = {letters: "EVAL RPUSH", key("dead-lettered:*"): "EVAL GET SET", NOWHERE: "MULTI EXEC"}
        return together(
            counting,
            broken,
            {key(f"{CELERY_QUEUE}*", CELERY_QUEUE): "LPUSH", key("handed-over:*"): "WATCH GET SET"},
        )

    def add_dead_letter(self, letter: DeadLetter) -> None:
        """Keep what is given up.

        Raises:
            QueueError: the broker does not answer.
        """
        with explained(self.client):
            self.client.rpush(dead_letters.KEY, letter.encode())

    def add_dead_letters(self, letters: Sequence[DeadLetter], batch: int, marker: str) -> None:
        """Keep several, once however often the same batch is repeated.

        A transaction would mark a batch as kept where the list refuses it; a script stops there.

        Raises:
            QueueError: the broker does not answer, or refuses.
        """
        with explained(self.client):
            self.client.eval(
                _ADD_ONCE,
                2,
                dead_letters.KEY,
                marker,
                batch,
                MARKER_SECONDS,
                *map(DeadLetter.encode, letters),
            )

    def dead_letters(self, first: int = 0, last: int = 10**12) -> Iterator[bytes]:
        """Yield the records of the dead letters from position `first` to `last`, oldest first.

        Bounded: a MiB of them is held at a time, or one that is larger. One that the server lets nobody fetch
        comes without its body.

        Raises:
            QueueError: the broker does not answer.
        """
        while first <= last:
            try:
                with explained(self.client):
                    if self._largest is None:
                        self._largest = largest_fetched(self.client)
                    page: Any = self.client.eval(
                        _PAGE, 1, dead_letters.KEY, first, last, PAGE_BYTES, self._largest
                    )
            except QueueError:
                self._largest = None
                raise
            if not page:
                return
            yield from page
            first += len(page)

    def count_dead_letters(self) -> int:
        """Count the dead letters.

        Raises:
            QueueError: the broker does not answer.
        """
        with explained(self.client):
            count: Any = self.client.llen(dead_letters.KEY)
        return int(count)

    def forget_dead_letter(self, record: bytes) -> None:
        """Remove one dead letter.

        Raises:
            QueueError: the broker does not answer.
        """
        with explained(self.client):
            self.client.lrem(dead_letters.KEY, 1, record)  # type: ignore[arg-type]

    def put_task(self, envelope: bytes, task_id: str = "") -> None:
        """Put a task into its Celery queue, as if it had never been delivered.

        Takes the envelope of any client, and the call `{"task", "args", "kwargs"}` of a task that failed.

        Raises:
            MessageError: it is neither.
            QueueError: the broker does not answer.
        """
        try:
            # Not orjson: it refuses the lone surrogates that other clients' JSON may have.
            message = json.loads(envelope)
        except (ValueError, RecursionError) as error:
            raise MessageError(f"no Celery task: {type(error).__name__}") from None
        if not isinstance(message, dict) or ("body" not in message and "task" not in message):
            raise MessageError("no Celery task: it has neither a body nor a call")
        if isinstance(message.get("set_aside"), str):
            raise MessageError(message["set_aside"])
        try:
            if "body" in message:
                self._put_envelope(message)
            else:
                self._put_call(kombu_json.loads(envelope), task_id)
        except OperationalError as error:
            raise Unreachable(f"{address(self.client)} does not answer: {error}") from error

    def _put_envelope(self, message: dict[str, Any]) -> None:
        if not isinstance(properties := message.get("properties"), dict):
            raise MessageError("no Celery task: its envelope has no properties, so no worker can open it")
        message.pop("deaths", None)
        delivery = properties.get("delivery_info")
        queue = delivery.get("routing_key") if isinstance(delivery, dict) else None
        with explained(self.client), Connection(transport.url(self._url)) as connection:
            connection.default_channel._put(queue if queue and type(queue) is str else CELERY_QUEUE, message)

    def _put_call(self, call: dict[str, Any], task_id: str) -> None:
        arguments, named, own_id = call.get("args") or [], call.get("kwargs") or {}, call.get("id")
        if type(call["task"]) is not str or type(arguments) is not list or type(named) is not dict:
            raise MessageError("no Celery task: a call has a name, a list of args and an object of kwargs")
        # Here, because who only counts tasks need not wait for Celery to be imported.
        from celery import Celery

        from queuebench.broker.own_settings import OWN_SETTINGS

        url, own_id = transport.url(self._url), own_id if type(own_id) is str else ""
        with (
            explained(self.client),
            Connection(url) as connection,
            Celery(broker=url, set_as_current=False, **OWN_SETTINGS) as app,
        ):
            app.send_task(
                call["task"],
                arguments,
                named,
                task_id=task_id or own_id or None,
                connection=connection,
                ignore_result=True,
                retry=False,
            )

    def take_tasks(self, most: int) -> list[bytes]:
        """Take up to `most` envelopes off Celery's list for good, the oldest first: they are never run.

        Raises:
            QueueError: the broker does not answer.
        """
        with explained(self.client):
            taken: Any = self.client.rpop(CELERY_QUEUE, most)
        return list(taken or ())

    def note_run(self, run_id: str) -> None:
        """Keep which run was opened last, beside the tasks that it has here.

        Raises:
            QueueError: the broker does not answer.
        """
        with explained(self.client):
            self.client.set(OPEN_RUN, run_id)

    def noted_run(self) -> str | None:
        """Return the run that was opened last with this broker; None: there was none.

        Raises:
            QueueError: the broker does not answer.
        """
        with explained(self.client):
            if self.client.type(OPEN_RUN) != b"string":
                return None
            run_id: Any = self.client.get(OPEN_RUN)
        return None if run_id is None else run_id.decode(errors="replace")

    def backlog(self) -> Depth:
        """Count the tasks that wait and those that a worker has taken.

        Raises:
            QueueError: the broker does not answer.
        """
        with explained(self.client):
            return Depth(*transport.backlog(self.client, CELERY_QUEUE))


def celery_settings(url: str, slots: int) -> dict[str, Any]:
    """Return what the Celery app must be told so that a killed worker's tasks come back."""
    return transport.celery_settings(
        url,
        slots,
        dead_letters=dead_letters.KEY,
        # By name: Celery's `inspect stats` tells these options to whoever asks.
        dead_letter_record="queuebench.broker.dead_letters:record_of_task",
    )
