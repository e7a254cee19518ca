"""A Redis list as a queue, with what SQS has by nature: messages in flight that come back.

A receive moves messages, in one atomic step, from the list to an in-flight list of the consumer.
The consumer holds a lease; when it runs out, anybody puts the in-flight list back where it came
from. A consumer has one batch in flight at the most: what a receive finds there is a batch whose
reply was lost, and is delivered again.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from queuebench.errors import QueueError
from queuebench.plumbing.redis_client import PushOnce, Script, connect, explained, largest_fetched
from queuebench.plumbing.redis_rights import NOWHERE, Needs, key, require
from queuebench.queues.base import Batch, Depth, Queue, Use

LEASE_SECONDS = 10.0
RENEWALS_PER_LEASE = 4
# A blocking call has to end before the client's own time-out.
LONGEST_WAIT_SECONDS = 5.0
RECEIVE_BYTES = 1024 * 1024  # that a receive takes, or one message that is larger
LARGEST_BYTES = 16 * 1024 * 1024  # of that one message; a server's limit on replies may be lower
POPPED_AT_ONCE = 16
GIVEN_BACK_BYTES = 1024 * 1024  # and so many messages, at once
GIVEN_BACK_AT_ONCE = 1000
SET_ASIDE = "set-aside"

# LPOP comes first: a server at its maxmemory refuses writes that take memory, unless the script
# has already made one that does not. Popping grows from one at a time, so that large messages are counted
# before many of them are taken. The batch's token tells its acknowledgement from one of a batch before it.
_RECEIVE = """
local want, most, largest = tonumber(ARGV[1]), tonumber(ARGV[5]), tonumber(ARGV[7])
local held = redis.call('LRANGE', KEYS[2], 0, -1)
if #held > 0 then
  local bytes = 0
  for _, body in ipairs(held) do bytes = bytes + #body end
  if bytes <= most or (#held == 1 and bytes <= largest) then
    return {redis.call('GET', KEYS[5]) or '', held}
  end
  -- Together they are more than the server lets anybody fetch by now: taken anew, in smaller batches.
  redis.call('DEL', KEYS[5])
  for _ = 1, #held do redis.call('LMOVE', KEYS[2], KEYS[1], 'RIGHT', 'LEFT') end
end
local bodies, bytes, full = {}, 0, false
while #bodies < want and bytes < most and not full do
  local count = math.min(want - #bodies, math.max(#bodies, 1), ARGV[6])
  if bytes > 0 then count = math.min(count, 1 + math.floor((most - bytes) * #bodies / bytes)) end
  local some = redis.call('LPOP', KEYS[1], count)
  if not some then break end
  local kept, size = some, 0
  for _, body in ipairs(some) do size = size + #body end
  -- As a rule all of them fit, and then none of them is too large.
  if bytes + size > most then
    kept, size = {}, 0
    for position, body in ipairs(some) do
      local given = body
      if #body > largest then
        local start = string.gsub(string.sub(body, 1, 200), '[^ -~]', '?')
        given = cjson.encode({start = start, set_aside = string.format(
          'it has %d bytes, more than the %d that can be fetched: it is kept whole in %s of its Redis',
          #body, largest, KEYS[6])})
      end
      if #bodies + #kept > 0 and bytes + size + #given > most then
        for left = #some, position, -1 do redis.call('LPUSH', KEYS[1], some[left]) end
        full = true
        break
      end
      if given ~= body then redis.call('RPUSH', KEYS[6], body) end
      kept[#kept + 1], size = given, size + #given
    end
  end
  for _, body in ipairs(kept) do bodies[#bodies + 1] = body end
  if #kept > 0 then redis.call('RPUSH', KEYS[2], unpack(kept)) end
  bytes = bytes + size
end
if #bodies == 0 then return {'', {}} end
redis.call('SADD', KEYS[3], ARGV[2])
redis.call('SET', KEYS[4], 1, 'PX', ARGV[3])
redis.call('SET', KEYS[5], ARGV[4])
return {ARGV[4], bodies}
"""

_ACKNOWLEDGE = """
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1], KEYS[2])
"""

# Every consumer without a lease, or the one that is named, gives back what it holds, in order; at most so
# many messages and bytes a call, so that nobody else waits long for the server. The reply: is there more?
_GIVE_BACK = """
local count, bytes = 0, 0
for _, consumer in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local lease = ARGV[1] .. ':lease:' .. consumer
  if consumer == ARGV[2] or redis.call('EXISTS', lease) == 0 then
    local held = ARGV[1] .. ':in-flight:' .. consumer
    while count < tonumber(ARGV[3]) and bytes < tonumber(ARGV[4]) do
      local body = redis.call('LMOVE', held, KEYS[1], 'RIGHT', 'LEFT')
      if not body then break end
      count, bytes = count + 1, bytes + #body
    end
    if redis.call('EXISTS', held) == 1 then return 1 end
    redis.call('DEL', lease, ARGV[1] .. ':batch:' .. consumer)
    redis.call('SREM', KEYS[2], consumer)
  end
end
return 0
"""

_DEPTH = """
local held = 0
for _, consumer in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  held = held + redis.call('LLEN', ARGV[1] .. ':in-flight:' .. consumer)
end
return {redis.call('LLEN', KEYS[1]), held}
"""


class RedisList(Queue):
    """The list `channel_name` on the server at `redis_pubsub_url`.

    A receive takes at most `batch_size` messages and `RECEIVE_BYTES`, or one message that is larger. What
    has more than `LARGEST_BYTES`, or more than the server's client-output-buffer-limit lets anybody fetch,
    goes to the list `channel_name:set-aside` there, and what says so is received in its place.
    """

    batch_size = 1000
    batch_bytes = 4 * 2**20
    sends = 2  # one builds a batch while the server works on the other's
    receivers = 3  # one works while the others wait for the queue and for the broker
    wait_seconds = 2.0

    def __init__(
        self, *, redis_pubsub_url: str, channel_name: str, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self.name = channel_name
        self._client = connect(redis_pubsub_url)
        self._id = uuid.uuid4().hex
        self._lease_ms = int(lease_seconds * 1000)
        self._consumers = f"{channel_name}:consumers"
        self._receive = Script(self._client, _RECEIVE)
        self._acknowledge = Script(self._client, _ACKNOWLEDGE)
        self._give_back = Script(self._client, _GIVE_BACK)
        self._depth = Script(self._client, _DEPTH)
        self._pushers = [
            PushOnce(self._client, channel_name, "RPUSH", f"{channel_name}:sent:{self._id}:{lane}")
            for lane in range(self.sends)
        ]
        self._lanes: set[str] = set()
        self._largest: int | None = None  # asked again after each failure: that may have been the reason
        self._closed = threading.Event()
        self._renewer: threading.Thread | None = None
        self._starting = threading.Lock()

    def check(self) -> None:
        with explained(self._client):
            kind: Any = self._client.type(self.name)
        if kind not in (b"list", b"none"):
            raise QueueError(f"the key {self.name!r} (CHANNEL_NAME) holds a {kind.decode()}, not a list")

    def try_rights(self, use: Use) -> None:
        require(self._client, self._needs(use))

    def publish(
        self, bodies: Sequence[bytes], lane: int, batch: int, tenants: Sequence[str] = ()
    ) -> Sequence[int]:
        self._pushers[lane].push(bodies, batch)
        return ()

    def receive(self, lane: int, wait_seconds: float) -> Batch | None:
        consumer = f"{self._id}:{lane}"
        if consumer not in self._lanes:
            self._start_renewing(consumer)
        keys = [self.name, self._in_flight(consumer), self._consumers, f"{self.name}:lease:{consumer}"]
        keys += [self._token(consumer), f"{self.name}:{SET_ASIDE}"]
        try:
            with explained(self._client):
                return self._receive_within(consumer, keys, wait_seconds)
        except QueueError:
            self._largest = None
            raise

    def _receive_within(self, consumer: str, keys: Sequence[str], wait_seconds: float) -> Batch | None:
        largest = self._largest_fetched()
        args: list[int | str] = [self.batch_size, consumer, self._lease_ms, uuid.uuid4().hex]
        args += [min(RECEIVE_BYTES, largest // 2), POPPED_AT_ONCE, largest]
        give_up_at = time.monotonic() + wait_seconds
        while True:
            began = time.perf_counter()
            token, bodies = self._receive(keys=keys, args=args)
            if bodies:
                seconds = time.perf_counter() - began
                return Batch(bodies, [None] * len(bodies), (consumer, token), float("inf"), seconds)
            seconds = min(give_up_at - time.monotonic(), LONGEST_WAIT_SECONDS)
            if seconds <= 0:
                return None
            # Moving the head to the head changes nothing, but blocks until there is one.
            self._client.blmove(self.name, self.name, max(seconds, 0.05), "LEFT", "LEFT")  # type: ignore[arg-type]

    def _largest_fetched(self) -> int:
        """Return how large a message may be; a server that does not tell has no limit of its own."""
        if self._largest is None:
            self._largest = min(LARGEST_BYTES, largest_fetched(self._client) or LARGEST_BYTES)
        return self._largest

    def acknowledge(self, batch: Batch) -> None:
        consumer, token = batch.receipt
        with explained(self._client):
            self._acknowledge(keys=[self._in_flight(consumer), self._token(consumer)], args=[token])

    def depth(self) -> Depth:
        with explained(self._client):
            waiting, held = self._depth(keys=[self.name, self._consumers], args=[self.name])
        return Depth(waiting, held)

    def close(self) -> None:
        self._closed.set()
        with contextlib.suppress(QueueError), explained(self._client):
            for consumer in self._lanes:
                self._restore(consumer)
        self._client.close()

    def stop_renewing(self) -> None:
        """Let the leases run out, as they do when the process hangs."""
        self._closed.set()

    def _needs(self, use: Use) -> Needs:
        name, script = self.name, "EVALSHA EVAL"
        queue, consumers = key(name), key(f"{name}:consumers")
        held = key(f"{name}:in-flight:*")
        if use == "send":
            return {queue: "TYPE RPUSH", key(f"{name}:sent:*"): "WATCH GET SET", NOWHERE: "MULTI EXEC"}
        if use == "look":
            return {queue: f"{script} LLEN", consumers: f"{script} SMEMBERS", held: "LLEN"}
        return {
            queue: f"{script} TYPE LPOP LPUSH BLMOVE LMOVE",
            consumers: f"{script} SADD SMEMBERS SREM",
            held: f"{script} LRANGE RPUSH LMOVE UNLINK EXISTS",
            key(f"{name}:{SET_ASIDE}"): f"{script} RPUSH",
            key(f"{name}:lease:*"): f"{script} SET EXISTS PEXPIRE DEL",
            key(f"{name}:batch:*"): f"{script} SET GET UNLINK DEL",
        }

    def _restore(self, consumer: str) -> None:
        args: list[int | str] = [self.name, consumer, GIVEN_BACK_AT_ONCE, GIVEN_BACK_BYTES]
        while self._give_back(keys=[self.name, self._consumers], args=args):
            pass

    def _token(self, consumer: str) -> str:
        return f"{self.name}:batch:{consumer}"

    def _in_flight(self, consumer: str) -> str:
        return f"{self.name}:in-flight:{consumer}"

    def _start_renewing(self, consumer: str) -> None:
        with self._starting:
            self._lanes.add(consumer)
            if self._renewer is None:
                self._renewer = threading.Thread(target=self._renew, name="lease", daemon=True)
                self._renewer.start()

    def _renew(self) -> None:
        """Renew the leases, and give back what consumers without one held."""
        while True:
            with contextlib.suppress(QueueError), explained(self._client):
                for consumer in list(self._lanes):
                    # Not SET: a server at its maxmemory would refuse it.
                    self._client.pexpire(f"{self.name}:lease:{consumer}", self._lease_ms)
                self._restore("")
            if self._closed.wait(self._lease_ms / 1000 / RENEWALS_PER_LEASE):
                return
