"""The local SQS's engine over random sequences of calls, and what would take minutes to wait for."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from queuebench.errors import SettingsError
from queuebench.local_sqs.bill import Bill
from queuebench.local_sqs.engine import Engine
from queuebench.local_sqs.errors import SqsError
from queuebench.local_sqs.faults import Faults, Latency, Mishap
from queuebench.local_sqs.ids import IdSource
from queuebench.local_sqs.limits import NO_LIMITS, CallRate, Limits
from queuebench.local_sqs.message import Message
from queuebench.local_sqs.moves import MoveTasks
from queuebench.local_sqs.queue import Queue
from queuebench.local_sqs.replay import Replay, snapshot
from queuebench.prices import sqs_billed_requests

START = 1_000_000.0
DAYS_4 = 345_600
LIMITS = Limits(in_flight=15, fifo_search=6)


def engine_with(limits: Limits = NO_LIMITS, *, keep_events: bool = True) -> Engine:
    return Engine("us-east-1", limits, IdSource(), keep_events=keep_events)


def rebuilt(events: list[list[object]], limits: Limits, now: float) -> Engine:
    """Return an engine that read these events from a log."""
    engine = engine_with(limits)
    replay = Replay(engine)
    for event in json.loads(json.dumps(events)):
        replay.take(event)
    replay.finish(now)
    return engine


def create(engine: Engine, name: str = "q", now: float = START, **attributes: object) -> Queue:
    values = {key: str(value) for key, value in attributes.items()}
    if name.endswith(".fifo"):
        values["FifoQueue"] = "true"
    return engine.create_queue(name, values, {}, now)


def send(
    engine: Engine,
    queue: Queue,
    body: str,
    now: float = START,
    *,
    group: str | None = None,
    dedup: str | None = None,
    delay: int | None = None,
) -> Message:
    if queue.is_fifo:
        group, dedup = group or "g", dedup or engine.new_id()
    message = Message(engine.new_id(), body, sent_at=now, group=group, dedup_id=dedup)
    return engine.send(queue, message, now, delay)


def bodies(engine: Engine, queue: Queue, now: float = START, limit: int = 10, timeout: int = 30) -> list[str]:
    return [message.body for message in engine.receive(queue, limit, timeout, now)]


# Random sequences of calls


@dataclass
class Sent:
    """What the model knows of a message."""

    order: int
    group: str | None
    delayed_until: float
    hidden_until: float = 0.0
    handle: str = ""


class Calls(RuleBasedStateMachine):
    """Random calls on one queue; what waits survives restarts from the log and from a snapshot."""

    name = "q"

    @initialize()
    def begin(self) -> None:
        self.now = START
        self.engine = engine_with(LIMITS)
        self.queue = create(self.engine, self.name)
        self.log: list[list[object]] = []
        self.alive: dict[str, Sent] = {}
        self.old_handles: list[str] = []
        self.count = 0
        self.keep()

    def keep(self) -> None:
        self.log += self.engine.events
        self.engine.events.clear()

    def is_visible(self, sent: Sent) -> bool:
        return self.now >= max(sent.delayed_until, sent.hidden_until)

    def is_in_flight(self, sent: Sent) -> bool:
        return bool(sent.handle) and self.now < sent.hidden_until

    @rule(groups=st.lists(st.sampled_from("abc"), min_size=1, max_size=6), delay=st.sampled_from([0, 0, 20]))
    def send(self, groups: list[str], delay: int) -> None:
        is_fifo = self.queue.is_fifo
        delay = 0 if is_fifo else delay
        for group in groups:
            self.count += 1
            message = send(self.engine, self.queue, str(self.count), self.now, group=group, delay=delay)
            self.alive[message.id] = Sent(self.count, group if is_fifo else None, self.now + delay)
        self.keep()

    @rule(limit=st.integers(1, 10), timeout=st.sampled_from([0, 5, 30]))
    def receive(self, limit: int, timeout: int) -> None:
        in_flight = sum(map(self.is_in_flight, self.alive.values()))
        visible = sum(map(self.is_visible, self.alive.values()))
        # what is behind a group's earliest message in flight is locked
        locked_from = {
            group: min(
                (s.order for s in self.alive.values() if s.group == group and self.is_in_flight(s)),
                default=self.count + 1,
            )
            for group in "abc"
        }
        messages = self.engine.receive(self.queue, limit, timeout, self.now)
        assert len(messages) <= min(limit, visible, LIMITS.in_flight - in_flight)
        if not self.queue.is_fifo:
            assert len(messages) == min(limit, visible, LIMITS.in_flight - in_flight)
        else:
            free = 0
            for group, locked in locked_from.items():
                got = [int(message.body) for message in messages if message.group == group]
                waiting = sorted(sent.order for sent in self.alive.values() if sent.group == group)
                assert got == waiting[: len(got)]
                assert all(order < locked for order in got)
                free += sum(order < locked for order in waiting)
            if len(self.alive) <= LIMITS.fifo_search:
                assert len(messages) == min(limit, free, LIMITS.in_flight - in_flight)
        for message in messages:
            sent = self.alive[message.id]
            assert self.is_visible(sent), "delivered twice within its visibility timeout"
            if sent.handle:
                self.old_handles.append(sent.handle)
            sent.handle = self.queue.receipt_handle(message)
            sent.hidden_until = self.now + timeout
        self.keep()

    @precondition(lambda self: any(sent.handle for sent in self.alive.values()))
    @rule(data=st.data(), count=st.integers(1, 10))
    def delete(self, data: st.DataObject, count: int) -> None:
        received = [id for id, sent in self.alive.items() if sent.handle]
        first = data.draw(st.sampled_from(range(len(received))))
        for id in received[first : first + count]:
            sent = self.alive[id]
            if self.queue.is_fifo and not self.is_in_flight(sent):
                with pytest.raises(SqsError, match="expired"):
                    self.engine.delete(self.queue, sent.handle, self.now)
            else:
                self.engine.delete(self.queue, sent.handle, self.now)
                self.old_handles.append(sent.handle)
                del self.alive[id]
        self.keep()

    @precondition(lambda self: self.old_handles)
    @rule(data=st.data())
    def delete_by_an_old_handle(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(self.old_handles))
        try:
            self.engine.delete(self.queue, handle, self.now)
        except SqsError as error:
            assert self.queue.is_fifo, error
        self.keep()

    @precondition(lambda self: any(sent.handle for sent in self.alive.values()))
    @rule(data=st.data(), timeout=st.sampled_from([0, 1, 60]))
    def change_visibility(self, data: st.DataObject, timeout: int) -> None:
        sent = data.draw(st.sampled_from([sent for sent in self.alive.values() if sent.handle]))
        if self.queue.is_fifo and not self.is_in_flight(sent):
            with pytest.raises(SqsError, match="not available for visibility timeout change"):
                self.engine.change_visibility(self.queue, sent.handle, timeout, self.now)
            return
        self.engine.change_visibility(self.queue, sent.handle, timeout, self.now)
        if self.is_in_flight(sent):
            sent.hidden_until = self.now + timeout
        self.keep()

    @rule(seconds=st.sampled_from([0.001, 1, 5, 20, 30, 60]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(from_snapshot=st.sampled_from([False, False, True]))
    def restart(self, from_snapshot: bool) -> None:
        if from_snapshot:
            self.log = list(snapshot(self.engine))
        self.engine = rebuilt(self.log, LIMITS, self.now)
        self.queue = self.engine.queue(self.name)

    @invariant()
    def counts_agree(self) -> None:
        queue = self.queue
        queue.advance(self.now)
        assert queue.waiting + queue.in_flight + queue.delayed == len(self.alive)
        assert queue.in_flight == sum(map(self.is_in_flight, self.alive.values()))
        assert queue.delayed == sum(self.now < sent.delayed_until for sent in self.alive.values())

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        received: dict[str | None, list[int]] = {}
        for _ in range(10 * len(self.alive) + 10):
            messages = self.engine.receive(self.queue, 10, 30, self.now)
            for message in messages:
                received.setdefault(message.group if self.queue.is_fifo else None, []).append(
                    int(message.body)
                )
                self.engine.delete(self.queue, self.queue.receipt_handle(message), self.now)
            if not messages:
                self.now += 10
        everything = sorted(order for orders in received.values() for order in orders)
        assert everything == sorted(sent.order for sent in self.alive.values()), "a message is lost"
        if self.queue.is_fifo:
            assert all(orders == sorted(orders) for orders in received.values()), "order within a group"


class FifoCalls(Calls):
    """The same on a FIFO queue."""

    name = "q.fifo"


_SETTINGS = settings(
    max_examples=250, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStandardCalls = Calls.TestCase
TestStandardCalls.settings = _SETTINGS
TestFifoCalls = FifoCalls.TestCase
TestFifoCalls.settings = _SETTINGS


@pytest.mark.parametrize("name", ["q", "q.fifo"])
@pytest.mark.parametrize("seed", range(20))
def test_dead_letters_are_never_lost_and_never_early(name: str, seed: int) -> None:
    chance, now, most = random.Random(seed), START, 3
    engine = engine_with()
    dead = create(engine, "dead" + name)
    policy = {"deadLetterTargetArn": engine.arn(dead.name), "maxReceiveCount": most}
    queue = create(engine, name, RedrivePolicy=json.dumps(policy))
    events: list[list[object]] = []
    sent = {str(i) for i in range(30)}
    for body in sorted(sent):
        send(engine, queue, body, now, group=body[0])
    seen: dict[str, int] = dict.fromkeys(sent, 0)
    deleted: set[str] = set()
    for step in range(400):
        for message in engine.receive(queue, chance.randint(1, 10), 5, now):
            seen[message.body] += 1
            if chance.random() < 0.2:
                engine.delete(queue, queue.receipt_handle(message), now)
                deleted.add(message.body)
        now += chance.choice([0.0, 3.0, 6.0])
        events += engine.events
        engine.events.clear()
        if step % 50 == 49:
            engine = rebuilt(events, NO_LIMITS, now)
            queue, dead = engine.queue(name), engine.queue("dead" + name)
    buried = {message.body for message in dead.messages()}
    assert queue.waiting + queue.in_flight == 0
    assert buried | deleted == sent
    assert not buried & deleted
    assert all(seen[body] == most for body in buried)


# What would take minutes


@pytest.mark.parametrize("name", ["q", "q.fifo"])
def test_a_message_is_gone_when_its_retention_ends(name: str) -> None:
    engine = engine_with()
    queue = create(engine, name, MessageRetentionPeriod=60)
    send(engine, queue, "waiting", group="a")
    send(engine, queue, "in flight", group="b")
    assert bodies(engine, queue, START + 1, limit=1) == ["waiting"]
    queue.advance(START + 59)
    assert (queue.waiting, queue.in_flight) == (2, 0)
    assert bodies(engine, queue, START + 59, limit=1)
    queue.advance(START + 60)
    assert (queue.waiting, queue.in_flight) == (0, 0)
    assert bodies(engine, queue, START + 600) == []


def test_a_shorter_retention_holds_for_what_waits() -> None:
    engine = engine_with()
    queue = create(engine)
    send(engine, queue, "x")
    engine.set_attributes(queue, {"MessageRetentionPeriod": "60"}, START + 100)
    assert bodies(engine, queue, START + 100) == []


def test_a_dead_letter_keeps_its_age_on_standard_and_starts_anew_on_fifo() -> None:
    for name, ages in (("q", True), ("q.fifo", False)):
        engine = engine_with()
        dead = create(engine, "dead" + name, MessageRetentionPeriod=1000)
        policy = {"deadLetterTargetArn": engine.arn(dead.name), "maxReceiveCount": 1}
        queue = create(engine, name, RedrivePolicy=json.dumps(policy))
        send(engine, queue, "x")
        assert bodies(engine, queue, START + 500, timeout=1) == ["x"]
        assert bodies(engine, queue, START + 600) == []
        dead.advance(START + 999)
        assert dead.waiting == 1
        dead.advance(START + 1000)
        assert dead.waiting == (0 if ages else 1)


def test_a_duplicate_is_dropped_for_five_minutes_and_no_longer() -> None:
    engine = engine_with()
    queue = create(engine, "q.fifo")
    first = send(engine, queue, "1", dedup="same")
    assert send(engine, queue, "2", START + 299.9, dedup="same").id == first.id
    assert queue.waiting == 1
    send(engine, queue, "3", START + 300, dedup="same")
    assert queue.waiting == 2


@pytest.mark.parametrize("from_snapshot", [True, False])
def test_deduplication_survives_a_restart(from_snapshot: bool) -> None:
    engine = engine_with()
    queue = create(engine, "q.fifo", DeduplicationScope="messageGroup")
    first = send(engine, queue, "1", group="g", dedup="same")
    (message,) = engine.receive(queue, 1, 30, START)
    engine.delete(queue, queue.receipt_handle(message), START)
    engine = rebuilt(list(snapshot(engine)) if from_snapshot else engine.events, NO_LIMITS, START + 1)
    queue = engine.queue("q.fifo")
    again = send(engine, queue, "2", START + 2, group="g", dedup="same")
    assert (again.id, again.sequence_number) == (first.id, first.sequence_number)
    assert queue.waiting == 0
    other = send(engine, queue, "3", START + 2, group="h", dedup="same")
    assert int(other.sequence_number) > int(first.sequence_number)


def test_what_was_in_flight_comes_back_after_a_restart_when_its_timeout_ends() -> None:
    engine = engine_with()
    queue = create(engine)
    send(engine, queue, "x")
    (message,) = engine.receive(queue, 1, 30, START)
    handle = queue.receipt_handle(message)
    engine = rebuilt(engine.events, NO_LIMITS, START + 10)
    queue = engine.queue("q")
    assert bodies(engine, queue, START + 29.9) == []
    assert bodies(engine, queue, START + 30) == ["x"]
    engine.delete(queue, handle, START + 31)
    assert queue.in_flight == 1, "the handle of the first receive is an old one now"


def test_a_receive_attempt_ends_after_five_minutes() -> None:
    engine = engine_with()
    queue = create(engine, "q.fifo")
    send(engine, queue, "x")
    (first,) = engine.receive(queue, 1, 600, START, attempt_id="a")
    assert engine.receive(queue, 1, 600, START + 299, attempt_id="a") == [first]
    assert engine.receive(queue, 1, 600, START + 300, attempt_id="a") == []


def test_at_most_so_many_messages_are_in_flight() -> None:
    for name in ("q", "q.fifo"):
        engine = engine_with(Limits(in_flight=3))
        queue = create(engine, name)
        for i in range(5):
            send(engine, queue, str(i), group=str(i))
        assert len(bodies(engine, queue)) == 3
        assert bodies(engine, queue) == []


def test_only_the_oldest_messages_of_a_fifo_queue_are_searched() -> None:
    engine = engine_with(Limits(fifo_search=3))
    queue = create(engine, "q.fifo")
    for i in range(4):
        send(engine, queue, str(i), group="busy")
    send(engine, queue, "beyond", group="free")
    (first,) = engine.receive(queue, 1, 30, START)
    assert bodies(engine, queue) == []
    engine.delete(queue, queue.receipt_handle(first), START)
    second, third, fourth = engine.receive(queue, 10, 30, START)
    assert [second.body, third.body, fourth.body] == ["1", "2", "3"]
    engine.delete(queue, queue.receipt_handle(second), START)
    assert bodies(engine, queue) == ["beyond"]


def test_a_changed_delay_holds_for_what_waits_in_a_fifo_queue_only() -> None:
    for name, expected in (("q", []), ("q.fifo", ["x"])):
        engine = engine_with()
        queue = create(engine, name, DelaySeconds=900)
        send(engine, queue, "x")
        engine.set_attributes(queue, {"DelaySeconds": "0"}, START + 1)
        assert bodies(engine, queue, START + 2) == expected


def test_what_is_ahead_of_the_earliest_message_in_flight_is_given_out() -> None:
    engine = engine_with(LIMITS)
    queue = create(engine, "q.fifo")
    for body in "123":
        send(engine, queue, body, group="a")
    messages = engine.receive(queue, 10, 30, START)
    for give_back, then in ((2, []), (0, ["1"]), (0, ["1"])):
        engine.change_visibility(queue, queue.receipt_handle(messages[give_back]), 0, START)
        assert bodies(engine, queue) == then
    engine.change_visibility(queue, queue.receipt_handle(messages[0]), 0, START)
    engine.change_visibility(queue, queue.receipt_handle(messages[1]), 0, START)
    assert bodies(engine, queue) == ["1", "2", "3"]


def test_groups_take_turns() -> None:
    engine = engine_with(LIMITS)
    queue = create(engine, "q.fifo")
    for group in "abc":
        for n in "12":
            send(engine, queue, group + n, group=group)
    seen = []
    for _ in range(6):
        (message,) = engine.receive(queue, 1, 30, START)
        seen.append(message.body)
        engine.change_visibility(queue, queue.receipt_handle(message), 0, START)
    assert seen == ["a1", "b1", "c1"] * 2


def test_what_is_given_back_is_not_the_next_one_for_ever() -> None:
    engine = engine_with(LIMITS)
    queue = create(engine, "q")
    for body in "123":
        send(engine, queue, body)
    seen = []
    for _ in range(3):
        (message,) = engine.receive(queue, 1, 30, START)
        seen.append(message.body)
        engine.change_visibility(queue, queue.receipt_handle(message), 0, START)
    assert seen == ["1", "2", "3"]


def test_what_is_given_back_comes_again_soon_however_many_wait() -> None:
    engine = engine_with(LIMITS)
    queue = create(engine, "q")
    for n in range(1000):
        send(engine, queue, str(n))
    (message,) = engine.receive(queue, 1, 30, START)
    engine.change_visibility(queue, queue.receipt_handle(message), 0, START)
    seen: list[str] = []
    for _ in range(2):
        messages = engine.receive(queue, 10, 30, START)
        seen += [m.body for m in messages]
        for m in messages:
            engine.delete(queue, queue.receipt_handle(m), START)
    assert "0" in seen


@pytest.mark.parametrize("restart", [False, True])
def test_after_a_purge_deduplication_ids_are_free_again(restart: bool) -> None:
    engine = engine_with(LIMITS)
    queue = create(engine, "q.fifo")
    first = send(engine, queue, "1", group="a", dedup="d")
    engine.purge(queue, START)
    if restart:
        engine = rebuilt(engine.events, LIMITS, START)
        queue = engine.queue("q.fifo")
    again = send(engine, queue, "2", group="a", dedup="d")
    assert again.id != first.id
    assert bodies(engine, queue) == ["2"]


def test_an_older_handle_of_a_standard_queue_changes_visibility_and_a_visible_message_stays_so() -> None:
    engine = engine_with(LIMITS)
    queue = create(engine, "q")
    send(engine, queue, "1")
    (message,) = engine.receive(queue, 1, 5, START)
    older = queue.receipt_handle(message)
    engine.change_visibility(queue, older, 60, START + 5)
    assert bodies(engine, queue, START + 5, timeout=5) == ["1"]
    engine.change_visibility(queue, older, 60, START + 6)
    assert not bodies(engine, queue, START + 20)
    assert bodies(engine, queue, START + 66) == ["1"]


def quiet_dwell(*, noisy: int, fair: bool) -> list[float]:
    """Simulate 10 quiet tenants beside a noisy one; return how long each quiet message waited."""
    engine = engine_with(NO_LIMITS)
    queue = create(engine, "q")
    for n in range(noisy):
        send(engine, queue, f"noisy {n}", group="noisy" if fair else None)
    busy: list[tuple[float, str]] = []
    processing = random.Random(1)
    dwell, sent_at = [], {}
    for tick in range(6000):
        now = START + tick / 100
        if tick % 20 == 7:
            tenant = f"quiet {tick // 20 % 10}"
            sent_at[str(tick)] = now
            send(engine, queue, str(tick), now, group=tenant if fair else None)
        while busy and busy[0][0] <= now:
            engine.delete(queue, heappop(busy)[1], now)
        # a consumer with 100 slots, each of which a message holds for about a second
        if tick % 5 == 0:
            for message in engine.receive(queue, min(10, 100 - len(busy)), 30, now):
                heappush(busy, (now + processing.uniform(0.5, 1.5), queue.receipt_handle(message)))
                if message.body in sent_at:
                    dwell.append(now - sent_at[message.body])
    return dwell


def test_quiet_tenants_of_a_fair_queue_wait_at_most_twice_as_long_as_without_a_noisy_one() -> None:
    unloaded = quiet_dwell(noisy=0, fair=True)
    fair = quiet_dwell(noisy=20_000, fair=True)
    assert len(fair) == len(unloaded) == 300
    assert sum(fair) / len(fair) <= 2 * sum(unloaded) / len(unloaded)
    assert len(quiet_dwell(noisy=20_000, fair=False)) < 10, "without tenants they wait behind the backlog"


def test_a_noisy_tenant_gets_what_nobody_else_needs_and_is_quiet_once_its_backlog_is_gone() -> None:
    engine = engine_with(NO_LIMITS)
    queue = create(engine, "q")
    for n in range(100):
        send(engine, queue, str(n), group="a")
    handles = [queue.receipt_handle(m) for _ in range(10) for m in engine.receive(queue, 10, 3600, START)]
    assert len(handles) == 100
    for handle in handles:
        engine.delete(queue, handle, START)
    send(engine, queue, "a", group="a")
    send(engine, queue, "b", group="b")
    assert bodies(engine, queue, limit=1) == ["a"]


def test_of_noisy_tenants_the_one_with_the_fewest_in_flight_comes_first() -> None:
    engine = engine_with(NO_LIMITS)
    queue = create(engine, "q")
    for tenant, count in (("a", 120), ("b", 60)):
        for n in range(count):
            send(engine, queue, f"{tenant}{n}", group=tenant)
    received = [m for _ in range(6) for m in engine.receive(queue, 10, 3600, START)]
    for message in received:
        if message.group == "b" and int(message.body[1:]) < 15:
            engine.delete(queue, queue.receipt_handle(message), START)
    assert {body[0] for body in bodies(engine, queue, timeout=3600)} == {"b"}


def test_a_tenant_that_sends_nothing_for_five_minutes_is_no_longer_noisy() -> None:
    engine = engine_with(NO_LIMITS)
    queue = create(engine, "q")
    for n in range(100):
        send(engine, queue, f"a{n}", group="a")
    for _ in range(5):
        engine.receive(queue, 10, 3600, START)
    send(engine, queue, "b0", START + 1, group="b")
    assert bodies(engine, queue, START + 1, limit=1) == ["b0"]
    send(engine, queue, "c0", START + 301, group="c")
    assert bodies(engine, queue, START + 301, limit=1)[0].startswith("a")


def test_a_deleted_queue_can_be_made_again_after_60_seconds() -> None:
    engine = engine_with(Limits())
    old = create(engine)
    send(engine, old, "x")
    (message,) = engine.receive(old, 1, 30, START)
    engine.delete_queue(old, START)
    with pytest.raises(SqsError, match="60 seconds"):
        create(engine, now=START + 59)
    queue = create(engine, now=START + 60)
    assert bodies(engine, queue, START + 60) == []
    send(engine, queue, "y", START + 60)
    with pytest.raises(SqsError, match="not a valid receipt handle"):
        engine.delete(queue, old.receipt_handle(message), START + 60)


def test_what_points_to_gone_messages_is_let_go() -> None:
    for name in ("q", "q.fifo"):
        engine = engine_with(keep_events=False)
        queue = create(engine, name)
        send(engine, queue, "stays", group="stays")
        assert bodies(engine, queue, timeout=43_200) == ["stays"]
        for i in range(20_000):
            send(engine, queue, str(i), group=str(i))
            (message,) = engine.receive(queue, 1, 43_200, START)
            engine.delete(queue, queue.receipt_handle(message), START)
        assert len(queue._by_age) < 2_000
        assert len(queue._timers) < 2_000


# Move tasks


def with_dead_letters(engine: Engine, count: int, name: str = "q") -> tuple[Queue, Queue]:
    dead = create(engine, "dead" + name)
    policy = {"deadLetterTargetArn": engine.arn(dead.name), "maxReceiveCount": 1}
    queue = create(engine, name, RedrivePolicy=json.dumps(policy))
    for i in range(count):
        send(engine, queue, str(i), group=str(i))
    while bodies(engine, queue, START, timeout=0):
        pass
    assert bodies(engine, queue, START + 1) == []
    assert dead.waiting == count
    return queue, dead


@pytest.mark.parametrize("name", ["q", "q.fifo"])
def test_a_move_task_takes_dead_letters_back_as_new_messages(name: str) -> None:
    engine = engine_with()
    queue, dead = with_dead_letters(engine, 3, name)
    before = {message.id for message in dead.messages()}
    tasks = MoveTasks(engine)
    tasks.start(engine.arn(dead.name), None, None, START + 2)
    assert tasks.run(START + 2) is None
    assert dead.waiting == 0
    assert not before & {message.id for message in queue.messages()}
    assert sorted(bodies(engine, queue, START + 3)) == ["0", "1", "2"]
    (task,) = tasks.of(engine.arn(dead.name), 10)
    assert (task.status, task.moved, task.to_move) == ("COMPLETED", 3, 3)
    engine = rebuilt(engine.events, NO_LIMITS, START + 4)
    assert engine.queue(dead.name).waiting == 0
    assert engine.queue(name).in_flight == 3


def test_a_move_task_keeps_to_its_rate_and_can_be_cancelled() -> None:
    engine = engine_with()
    queue, dead = with_dead_letters(engine, 10)
    tasks = MoveTasks(engine)
    handle = tasks.start(engine.arn(dead.name), None, 2, START + 2)
    assert tasks.run(START + 2) == START + 2.5
    tasks.run(START + 4)
    assert (queue.waiting, dead.waiting) == (4, 6)
    assert tasks.cancel(handle).moved == 4
    assert tasks.run(START + 9) is None
    assert dead.waiting == 6
    with pytest.raises(SqsError, match="Task does not exist"):
        tasks.cancel(handle)


@pytest.mark.parametrize("rate", [None, 1])
def test_a_move_task_fails_when_its_destination_is_deleted_and_loses_nothing(rate: int | None) -> None:
    engine = engine_with()
    queue, dead = with_dead_letters(engine, 10)
    before = {message.id for message in dead.messages()}
    tasks = MoveTasks(engine)
    tasks.start(engine.arn(dead.name), engine.arn(queue.name), rate, START + 2)
    engine.delete_queue(queue, START + 2)
    assert tasks.run(START + 4) is None
    (task,) = tasks.of(engine.arn(dead.name), 1)
    assert (task.status, task.failure) == ("FAILED", "AWS.SimpleQueueService.NonExistentQueue")
    assert {message.id for message in dead.messages()} == before


# Quotas, faults, latency, bill


def test_a_rate_admits_as_many_calls_a_second_as_it_says() -> None:
    rate = CallRate(10)
    admitted = [t for t in range(10_000) if rate.admits(START + t / 1000)]
    # one second's worth at the start, then ten in each of the ten seconds
    assert len(admitted) == pytest.approx(10 + 100, abs=1)


def test_a_slow_rate_admits_at_all() -> None:
    rate = CallRate(0.5)
    assert [rate.admits(START + t) for t in range(5)] == [True, False, True, False, True]


def test_the_quota_is_per_action_and_not_for_high_throughput() -> None:
    engine = engine_with(Limits(fifo_calls_per_second=1))
    low = create(engine, "low.fifo")
    high = create(
        engine, "high.fifo", DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId"
    )
    standard = create(engine, "standard")
    assert [low.admits_call("send", START), low.admits_call("send", START)] == [True, False]
    assert low.admits_call("receive", START)
    assert all(high.admits_call("send", START) for _ in range(100))
    assert all(standard.admits_call("send", START) for _ in range(100))


def test_latency_has_the_median_and_tail_that_it_says() -> None:
    latency = Latency(10, 60, random.Random(7))
    drawn = sorted(latency.draw_seconds() * 1000 for _ in range(20_000))
    assert drawn[10_000] == pytest.approx(10, rel=0.05)
    assert drawn[19_800] == pytest.approx(60, rel=0.1)
    assert Latency(0, 0).draw_seconds() == 0


@pytest.mark.parametrize(("median", "p99"), [(-1, 10), (10, 5), (10, float("nan"))])
def test_a_latency_that_cannot_be_is_refused(median: float, p99: float) -> None:
    with pytest.raises(SettingsError, match="latencies"):
        Latency(median, p99)


def shares_of(count: int, draw: Callable[[], object]) -> dict[object, float]:
    drawn = [draw() for _ in range(count)]
    return {value: drawn.count(value) / count for value in set(drawn)}


def test_faults_come_in_the_shares_asked_for() -> None:
    faults = Faults(0.1, 0.2, 0.3, 0.4, random.Random(7))
    assert shares_of(10_000, faults.duplicates)[True] == pytest.approx(0.1, abs=0.02)
    assert shares_of(10_000, faults.fails_entry)[True] == pytest.approx(0.2, abs=0.02)
    shares = shares_of(10_000, faults.mishap)
    assert shares[Mishap.THROTTLED] == pytest.approx(0.4, abs=0.02)
    assert shares[Mishap.ERROR_BEFORE] == pytest.approx(0.6 * 0.15, abs=0.02)
    assert shares[Mishap.ERROR_AFTER] == pytest.approx(0.6 * 0.15, abs=0.02)


def test_no_fault_happens_unasked() -> None:
    faults = Faults()
    assert not any(faults.duplicates() or faults.fails_entry() or faults.mishap() for _ in range(1000))


@pytest.mark.parametrize("shares", [{"errors": 2}, {"errors": "x"}, {"errors": True}, {"fire": 0.1}])
def test_faults_that_cannot_be_are_refused(shares: dict[str, object]) -> None:
    faults = Faults(errors=0.5)
    with pytest.raises(SettingsError):
        faults.change(shares)
    assert faults.errors == 0.5


def test_a_duplicate_delivery_is_one_more_and_survives_its_original() -> None:
    engine = engine_with()
    queue = create(engine)
    sent = send(engine, queue, "x")
    (first,) = engine.receive(queue, 10, 30, START, is_duplicated=lambda: True)
    engine.delete(queue, queue.receipt_handle(first), START)
    (second,) = engine.receive(queue, 10, 30, START, is_duplicated=lambda: True)
    assert first.id == second.id == sent.id
    engine.delete(queue, queue.receipt_handle(second), START)
    assert engine.receive(queue, 10, 30, START + 60, is_duplicated=lambda: True) == []


@pytest.mark.parametrize(
    ("size", "requests"), [(0, 1), (1, 1), (65_536, 1), (65_537, 2), (262_144, 4), (1_048_576, 16)]
)
def test_each_64_kilobytes_are_one_request(size: int, requests: int) -> None:
    assert sqs_billed_requests(size) == requests


def test_the_bill_has_awss_prices_for_both_types() -> None:
    bill = Bill(since=START)
    for _ in range(10_000):
        bill.count("SendMessage", "q", 100)
    assert bill.usd == pytest.approx(0.0040)
    for _ in range(10_000):
        bill.count("SendMessage", "q.fifo", 100)
    assert bill.usd == pytest.approx(0.0090)
    assert bill.as_json()["requests"] == {
        "standard": {"SendMessage": 10_000},
        "fifo": {"SendMessage": 10_000},
    }
