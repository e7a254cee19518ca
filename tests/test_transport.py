"""The transport held to kombu's own: what is not marked as peculiar runs against both."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import ChannelError
from kombu.messaging import Consumer, Producer

from queuebench.broker import transport
from queuebench.broker.transport import lease
from queuebench.broker.transport.lasting import forget_idle
from queuebench.errors import SettingsError
from tests.line import Line
from tests.transport_fixtures import Server, broker, empty, server, until

pytestmark = pytest.mark.slow

__all__ = ["broker", "server"]

Connect = Callable[..., Connection]


@pytest.fixture
def opened() -> Iterator[list[Connection]]:
    """Connections to be closed when the test is over."""
    connections: list[Connection] = []
    yield connections
    for connection in connections:
        connection.release()


@pytest.fixture
def leased(broker: Server, opened: list[Connection]) -> Connect:
    """Connections through this project's transport."""

    def connect(url: str = broker.url, **options: object) -> Connection:
        opened.append(Connection(transport.url(url), transport_options={"lease_seconds": 1} | options))
        return opened[-1]

    return connect


@pytest.fixture(params=["leased", "stock"])
def connect(request, broker: Server, leased: Connect, opened: list[Connection]) -> Connect:
    """Connections through this project's transport, and in a second round through kombu's own."""

    def stock(**options: object) -> Connection:
        opened.append(Connection(broker.url, transport_options=options))
        return opened[-1]

    return leased if request.param == "leased" else stock


def publish(broker: Server, *bodies: object, queue: str = "q", **options: object) -> None:
    """Publish as anyone with kombu's own transport does."""
    with Connection(broker.url) as connection:
        producer = connection.Producer()
        for body in bodies:
            producer.publish(body, routing_key=queue, **options)


class Subscriber:
    """A consumer that keeps what it gets."""

    def __init__(self, connection: Connection, *queues: str, prefetch: int = 0, no_ack: bool = False) -> None:
        self.connection = connection
        self.messages: list[Any] = []
        self.channel = connection.channel()
        self.channel.basic_qos(0, prefetch, False)
        self.consumer = Consumer(
            self.channel,
            [Queue(queue) for queue in queues or ("q",)],
            on_message=self.messages.append,
            no_ack=no_ack,
        )
        self.consumer.consume()

    def drain(self, count: int) -> list[Any]:
        """Wait until `count` messages have come in all; return their bodies."""
        until(lambda: self._step() or len(self.messages) >= count, f"{count} messages")
        return [message.payload for message in self.messages]

    def rest(self) -> list[Any]:
        """Return the bodies of all that came, when nothing more comes."""
        with pytest.raises(TimeoutError):
            while True:
                self.connection.drain_events(timeout=0.3)
        return [message.payload for message in self.messages]

    def _step(self) -> bool:
        return step(self.connection)


def step(*connections: Connection) -> bool:
    """Handle what has arrived; return False, for conditions that need it to happen."""
    for connection in connections:
        with contextlib.suppress(TimeoutError):
            connection.drain_events(timeout=0.1)
    return False


def test_messages_of_a_stock_producer_arrive_in_order(broker, connect):
    publish(broker, *range(20))
    assert Subscriber(connect()).drain(20) == list(range(20))


def test_a_stock_consumer_gets_what_is_published_through_it(broker, connect):
    Producer(connect().channel()).publish({"ü": "\x00"}, routing_key="q")
    with Connection(broker.url) as stock:
        assert Subscriber(stock).drain(1) == [{"ü": "\x00"}]


def test_no_more_messages_come_than_the_prefetch_count(broker, connect):
    publish(broker, *range(10))
    subscriber = Subscriber(connect(), prefetch=3)
    assert subscriber.rest() == [0, 1, 2]
    subscriber.messages[1].ack()
    assert subscriber.rest() == [0, 1, 2, 3]


def test_an_acknowledged_message_is_gone(broker, connect):
    publish(broker, 1)
    connection = connect()
    subscriber = Subscriber(connection, prefetch=1)
    subscriber.drain(1)
    subscriber.messages[0].ack()
    connection.release()
    assert Subscriber(connect()).rest() == []


def test_unacknowledged_messages_come_back_in_order_when_the_consumer_closes(broker, connect):
    publish(broker, *range(5))
    connection = connect()
    subscriber = Subscriber(connection, prefetch=4)
    subscriber.drain(4)
    subscriber.messages[0].ack()
    connection.release()
    second = Subscriber(connect())
    assert sorted(second.drain(4)) == [1, 2, 3, 4]
    flags = {message.payload: message.delivery_info.get("redelivered", False) for message in second.messages}
    assert flags == {1: True, 2: True, 3: True, 4: False}


def test_a_requeued_message_comes_again_behind_the_others_and_says_so(broker, connect):
    publish(broker, 1, 2)
    subscriber = Subscriber(connect(), prefetch=1)
    subscriber.drain(1)
    subscriber.messages[0].requeue()
    subscriber.drain(2)
    subscriber.messages[1].ack()
    assert subscriber.drain(3) == [1, 2, 1]
    assert subscriber.messages[2].headers["redelivered"]
    assert subscriber.messages[2].delivery_info["redelivered"]


def test_a_rejected_message_is_gone(broker, connect):
    publish(broker, 1)
    connection = connect()
    subscriber = Subscriber(connection, prefetch=1)
    subscriber.drain(1)
    subscriber.messages[0].reject()
    connection.release()
    assert Subscriber(connect()).rest() == []


def test_recover_delivers_again_what_is_unacknowledged(broker, connect):
    publish(broker, 1, 2)
    subscriber = Subscriber(connect(), prefetch=2)
    subscriber.drain(2)
    subscriber.consumer.recover(requeue=True)
    assert sorted(subscriber.drain(4)) == [1, 1, 2, 2]


def test_a_cancelled_consumer_gets_nothing_more(broker, connect):
    subscriber = Subscriber(connect(), prefetch=5)
    subscriber.consumer.cancel()
    publish(broker, 1)
    with pytest.raises(TimeoutError):
        subscriber.connection.drain_events(timeout=0.3)
    assert Subscriber(connect()).drain(1) == [1]


def test_the_more_urgent_priority_comes_first(broker, connect):
    for priority in (9, 3, 0, 6):
        publish(broker, priority, priority=priority)
    assert Subscriber(connect(), prefetch=10).drain(4) == [0, 3, 6, 9]


def test_a_busy_queue_does_not_starve_another(broker, connect):
    publish(broker, *["busy"] * 50, queue="a")
    publish(broker, "quiet", queue="b")
    assert "quiet" in Subscriber(connect(), "a", "b", prefetch=10).drain(10)


def test_a_waiting_consumer_is_woken_by_each_of_its_queues(broker, connect):
    subscriber = Subscriber(connect(), "a", "b", prefetch=5)
    for queue, priority in (("a", 0), ("b", 0), ("b", 6)):
        assert subscriber.rest() == [message.payload for message in subscriber.messages]
        seen = len(subscriber.messages)
        threading.Timer(0.2, publish, (broker, queue), {"queue": queue, "priority": priority}).start()
        subscriber.connection.drain_events(timeout=30)
        assert len(subscriber.messages) == seen + 1


def test_purge_says_how_many_it_removed(broker, connect):
    publish(broker, 1, 2)
    publish(broker, 3, priority=9)
    channel = connect().channel()
    assert channel.queue_declare("q", passive=True).message_count == 3
    assert channel.queue_purge("q") == 3
    assert channel.basic_get("q") is None


def test_declaring_a_missing_queue_passively_fails(connect):
    with pytest.raises(ChannelError):
        connect().channel().queue_declare("missing", passive=True)


def test_a_deleted_queue_is_gone(broker, connect):
    publish(broker, 1)
    channel = connect().channel()
    queue = Queue("q", Exchange("q"), routing_key="q")(channel)
    queue.declare()
    queue.delete()
    assert broker.client.llen("q") == 0


def test_a_message_got_by_hand_can_be_acknowledged_or_come_back(broker, connect):
    publish(broker, 1, 2)
    connection = connect()
    channel = connection.channel()
    channel.basic_get("q").ack()
    assert channel.basic_get("q").payload == 2
    assert channel.basic_get("q") is None
    connection.release()
    assert Subscriber(connect()).rest() == [2]


def test_a_consumer_that_never_acknowledges_leaves_the_others_in_the_queue(broker, connect):
    publish(broker, 1, 2, 3)
    connection = connect()
    subscriber = Subscriber(connection, no_ack=True)
    connection.drain_events(timeout=5)
    connection.release()
    seen = len(subscriber.messages)
    assert len(Subscriber(connect()).rest()) == 3 - seen
    assert seen == 1


def test_a_simple_queue_works(broker, connect):
    queue = connect().SimpleQueue("simple")
    queue.put("hello")
    message = queue.get(timeout=5)
    assert message.payload == "hello"
    message.ack()
    with pytest.raises(queue.Empty):
        queue.get(timeout=0.2)


def test_a_broadcast_reaches_every_listener(broker, connect):
    heard: list[list[Any]] = [[], []]
    connections = [connect(), connect()]
    for connection, messages in zip(connections, heard, strict=True):
        queue = Queue(None, Exchange("news", type="fanout"), auto_delete=True, exclusive=True)
        consumer = connection.Consumer([queue], callbacks=[lambda body, _, to=messages: to.append(body)])
        consumer.consume()
    until(lambda: step(*connections) or listeners(broker) == 2, "both listen")
    with Connection(broker.url) as sender:
        news = Exchange("news", type="fanout")
        sender.Producer().publish("extra", exchange=news, declare=[news])
    until(lambda: step(*connections) or heard == [["extra"], ["extra"]], "both heard it")


def listeners(broker: Server) -> int:
    return sum(int(client["psub"]) for client in broker.client.client_list())


def test_a_key_prefix_separates_two_users_of_one_server(broker, connect):
    Producer(connect(global_keyprefix="mine-").channel()).publish("mine", routing_key="q")
    publish(broker, "other's")
    connection = connect(global_keyprefix="mine-")
    assert Subscriber(connection, prefetch=5).rest() == ["mine"]
    connection.release()
    assert Subscriber(connect(global_keyprefix="mine-")).rest() == ["mine"]


# Peculiar to this transport


def certificates(url: str) -> str:
    options: Any = Connection(transport.url(url)).ssl
    return str(options["ssl_cert_reqs"].name)


def test_urls_of_redis_are_taken_as_celery_takes_them():
    assert transport.url("redis://:secret@host:1/2") == "leased://:secret@host:1/2"
    assert transport.url("redis+socket:///run/redis.sock") == "leased+socket:///run/redis.sock?virtual_host=0"
    assert certificates("rediss://host/0") == "CERT_REQUIRED"
    assert certificates("rediss://host/0?ssl_cert_reqs=none") == "CERT_NONE"


@pytest.mark.parametrize("wrong", ["amqp://host", "sentinel://host", "host:6379", ""])
def test_other_urls_are_refused_in_one_line(wrong):
    with pytest.raises(SettingsError, match="starts with redis://"):
        transport.url(wrong)


def test_it_works_over_a_unix_socket(broker, leased):
    publish(broker, 1)
    assert Subscriber(leased(f"redis+socket://{broker.folder}/socket")).drain(1) == [1]


def test_the_backlog_tells_waiting_and_in_flight_apart(broker, leased):
    publish(broker, *range(7))
    publish(broker, 7, 8, priority=6)
    assert transport.backlog(broker.client, "q") == (9, 0)
    subscriber = Subscriber(leased(), prefetch=4)
    subscriber.drain(4)
    assert transport.backlog(broker.client, "q") == (5, 4)
    subscriber.messages[0].ack()
    subscriber.drain(5)
    assert transport.backlog(broker.client, "q") == (4, 4)


def test_no_two_consumers_share_a_message(broker, leased):
    publish(broker, *range(100))
    first, second = Subscriber(leased(), prefetch=60), Subscriber(leased(), prefetch=60)
    assert sorted(first.drain(60) + second.drain(40)) == list(range(100))


def test_thousands_of_messages_are_taken_and_acknowledged_at_once(broker, leased):
    publish(broker, 1)
    broker.client.lpush("q", *[broker.client.lindex("q", 0)] * 5999)
    subscriber = Subscriber(leased(), prefetch=6000)
    subscriber.drain(6000)
    for message in subscriber.messages:
        message.ack()
    until(lambda: subscriber._step() or empty_queue(broker), "nothing is in flight")


def empty_queue(broker: Server) -> bool:
    return transport.backlog(broker.client, "q") == (0, 0)


def test_acknowledgements_arrive_although_the_consumer_is_busy_elsewhere(broker, leased):
    publish(broker, 1)
    subscriber = Subscriber(leased(), prefetch=1)
    subscriber.drain(1)
    subscriber.messages[0].ack()
    until(lambda: empty_queue(broker), "the acknowledgement arrives without drain_events")


def test_scripts_that_the_server_forgot_are_sent_again(broker, leased):
    publish(broker, 1, 2)
    subscriber = Subscriber(leased(), prefetch=1)
    subscriber.drain(1)
    broker.client.script_flush()
    subscriber.messages[0].ack()
    assert subscriber.drain(2) == [1, 2]


def test_a_full_server_can_be_emptied(broker, leased):
    publish(broker, *range(50))
    broker.client.config_set("maxmemory-policy", "noeviction")
    subscriber = Subscriber(leased(), prefetch=10)
    broker.client.config_set("maxmemory", 1)
    while len(subscriber.messages) < 50 or not all(message.acknowledged for message in subscriber.messages):
        subscriber.drain(min(50, len(subscriber.messages) + 1))
        for message in subscriber.messages:
            if not message.acknowledged:
                message.ack()
    assert [message.payload for message in subscriber.messages] == list(range(50))
    broker.client.config_set("maxmemory", 0)


@pytest.mark.parametrize(
    "junk",
    [b"", b"\xff\xfe", b"null", b"[]", b"{}", b'{"properties": 1}', b"[" * 100_000, b'{"body": "\xff"}'],
)
def test_what_is_no_message_is_a_dead_letter_and_stops_nothing(broker, leased, junk):
    broker.client.lpush("q", junk)
    publish(broker, "good")
    subscriber = Subscriber(leased(dead_letters="dead"), prefetch=10)
    assert subscriber.drain(1) == ["good"]
    (letter,) = broker.client.lrange("dead", 0, -1)
    assert b"not a message of kombu's" in letter
    assert transport.backlog(broker.client, "q") == (0, 1)


def test_a_reply_that_never_came_loses_nothing(broker, leased):
    line = Line(broker.port)
    connection = leased(line.url)
    subscriber = Subscriber(connection, prefetch=10)
    assert subscriber.rest() == []
    line.cut_at = b"delivery_tag"
    publish(broker, *range(10))
    with pytest.raises(connection.connection_errors):
        while True:
            subscriber._step()
    assert line.cuts == 1
    connection.release()
    second = Subscriber(leased(line.url), prefetch=10)
    assert sorted(second.drain(10)) == list(range(10))
    line.close()


def test_who_connects_again_trusts_no_connection_that_was_kept(broker, leased):
    line = Line(broker.port)
    pool = leased(line.url).Pool(limit=2)
    with pool.acquire(block=True) as connection:
        Producer(connection.default_channel).publish("before", routing_key="q")
    assert line.swallow()
    forget_idle(pool)
    began = time.monotonic()
    with pool.acquire(block=True) as again:
        assert again is connection
        Producer(again.default_channel).publish("after", routing_key="q")
    assert time.monotonic() - began < again.default_channel.socket_timeout, "it waited for a dead one"
    pool.force_close_all()
    line.close()


def test_tasks_that_outlive_their_connection_are_acknowledged_all_the_same(broker, leased):
    publish(broker, *range(3))
    line = Line(broker.port)
    connection = leased(line.url, lease_seconds=5)
    subscriber = Subscriber(connection, prefetch=2)
    subscriber.drain(2)
    running = list(subscriber.messages)
    line.cut_at = b"delivery_tag"
    running[0].ack()
    with pytest.raises(connection.connection_errors):
        while True:
            subscriber._step()
    connection.release()
    running[1].ack()
    second = Subscriber(leased(line.url), prefetch=10)
    assert second.drain(1) == [2]
    until(
        lambda: transport.backlog(broker.client, "q") == (0, 1), "the lost connection's messages are settled"
    )
    assert second.rest() == [2]
    line.close()


def test_a_consumer_that_is_full_or_idle_keeps_its_lease(broker, leased):
    publish(broker, 1)
    holder = Subscriber(leased(), prefetch=1)
    holder.drain(1)
    other = Subscriber(leased(), prefetch=1)
    end = time.monotonic() + 3
    until(lambda: other._step() or time.monotonic() > end, "three leases have passed")
    assert other.messages == []


def test_an_option_that_nobody_reads_is_refused_and_those_of_kombu_are_taken():
    for options in ({"lease_secnds": 3}, {"visibility_timeuot": 5, "socket_timeout": 3}):
        with pytest.raises(SettingsError, match=rf"^the transport takes no option '{next(iter(options))}'"):
            transport.celery_settings("redis://127.0.0.1/0", 1, **options)
    taken = {"lease_seconds": 3, "visibility_timeout": 5, "polling_interval": 1, "global_keyprefix": "x"}
    made = transport.celery_settings("redis://127.0.0.1/0", 1, **taken)
    assert made["broker_transport_options"] == taken


def test_too_small_a_limit_of_deaths_is_refused(broker, leased):
    with pytest.raises(SettingsError, match="max_deaths"):
        leased(max_deaths=2).channel()
    assert empty(broker)


def test_a_number_is_not_used_again_after_a_reply_was_lost(broker, leased):
    line = Line(broker.port)
    connection = leased(line.url, lease_seconds=60)
    channel = connection.channel()
    publish(broker, "first", "second")
    line.cut_at = b"delivery_tag"
    with pytest.raises(connection.connection_errors):
        channel.basic_get("q")
    assert line.cuts == 1
    got: list[Any] = []

    def get() -> bool:
        if (message := channel.basic_get("q")) is not None:
            got.append(message.payload)
        return len(got) == 2

    until(get, "both come on the same channel")
    assert sorted(got) == ["first", "second"]
    connection.release()
    assert sorted(Subscriber(leased(), prefetch=5).drain(2)) == ["first", "second"]
    line.close()


FOREIGN = [
    {"headers": None},
    {"headers": []},
    {"headers": {}},
    {},
    {"headers": [], "properties": {"delivery_tag": "x"}},
    {"properties": {"delivery_tag": "x", "delivery_info": None}},
    {"properties": {"delivery_tag": "x", "delivery_info": []}},
]


@pytest.mark.parametrize("parts", FOREIGN, ids=str)
@pytest.mark.parametrize("start", ["", " \n"])
def test_an_envelope_of_another_client_comes_back_like_any_other(broker, leased, parts, start):
    info = {"exchange": "q", "routing_key": "q", "priority": 0}
    envelope = {
        "body": "ImhlbGxvIg==",
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": {"body_encoding": "base64", "delivery_tag": "x", "delivery_info": info},
    }
    tail = envelope | parts
    tail["properties"] = {"body_encoding": "base64"} | tail["properties"]
    broker.client.lpush("q", start + json.dumps(tail))
    dying = Subscriber(leased(), prefetch=1)
    assert dying.drain(1) == ["hello"]
    dying.channel._keeper.stopped.set()  # its lease runs out, as when it is killed
    second = Subscriber(leased(dead_letters="dead"), prefetch=1)
    assert second.drain(1) == ["hello"]
    assert second.messages[0].headers["redelivered"]
    assert broker.client.llen("dead") == 0


@pytest.mark.parametrize("which", ["normal", "pubsub"])
def test_an_idle_consumer_whose_connections_are_killed_hears_again(broker, leased, which):
    connection = leased()
    subscriber = Subscriber(connection, prefetch=5)
    assert subscriber.rest() == []
    broker.client.execute_command("CLIENT", "KILL", "TYPE", which, "SKIPME", "yes")
    publish(broker, "hello")
    lost = False
    deadline = time.monotonic() + 30
    while not subscriber.messages and not lost and time.monotonic() < deadline:
        try:
            subscriber._step()
        except connection.connection_errors:
            lost = True
    assert subscriber.messages or lost, "neither the message nor the loss is noticed"


def test_what_is_refused_for_now_is_waited_for_and_said_once(broker, leased, caplog):
    connection = leased()
    subscriber = Subscriber(connection, prefetch=1)
    assert subscriber.rest() == []
    publish(broker, 1, 2)
    broker.client.config_set("min-replicas-to-write", 1)
    try:
        end = time.monotonic() + 2
        until(lambda: subscriber._step() or time.monotonic() > end, "two seconds have passed")
        assert subscriber.messages == []
    finally:
        broker.client.config_set("min-replicas-to-write", 0)
    subscriber.drain(1)
    subscriber.messages[0].ack()
    assert subscriber.drain(2) == [1, 2]
    assert caplog.text.count("takes nothing for now") == 1


def test_what_a_dead_consumer_held_goes_back_in_parts_and_in_whole(broker, leased):
    publish(broker, *range(950))
    holder = Subscriber(leased(), prefetch=1000)
    holder.drain(950)
    holder.channel._keeper.stopped.set()
    broker.client.config_resetstat()
    second = Subscriber(leased(), prefetch=1000)
    assert sorted(second.drain(950)) == list(range(950))
    assert broker.client.info("commandstats")["cmdstat_hscan"]["calls"] >= 5


@pytest.fixture
def limited(broker: Server) -> Iterator[Callable[[int], object]]:
    """Set how much the server sends a client at once."""
    yield lambda limit: broker.client.config_set("client-output-buffer-limit", f"normal {limit} 0 0")
    broker.client.config_set("client-output-buffer-limit", "normal 0 0 0")


def test_a_claim_is_bounded_in_bytes(broker, leased, limited):
    limited(1_048_576)
    publish(broker, *[str(i).rjust(100_000) for i in range(40)])
    subscriber = Subscriber(leased(), prefetch=100)
    assert [int(body) for body in subscriber.drain(40)] == list(range(40))


@pytest.mark.parametrize(("limit", "lowered"), [(65_536, "before"), (524_288, "while it waits")])
def test_what_no_client_may_fetch_is_a_dead_letter_with_its_id_and_kept_whole(
    broker, leased, limited, limit, lowered
):
    connection = leased(dead_letters="dead")
    subscriber = Subscriber(connection, prefetch=1000)
    if lowered == "while it waits":
        assert subscriber.rest() == []
    sizes = [1, limit // 5, limit, limit // 2, 3 * limit, limit // 20] * 2
    publish(broker, *["x" * size for size in sizes], headers={"id": "run-7"})
    whole = broker.client.lrange("q", 0, -1)
    limited(limit)
    largest = limit * 3 // 4 - 16_384
    if lowered == "while it waits":
        with pytest.raises(connection.connection_errors):
            while True:
                subscriber._step()
        # As a worker does: what was taken goes back, and is taken again over a new connection.
        connection.release()
        subscriber = Subscriber(leased(dead_letters="dead"), prefetch=1000)
    taken = sum(len(payload) <= largest for payload in whole)
    assert sorted(map(len, subscriber.drain(taken))) == sorted(
        size for size, payload in zip(sizes, reversed(whole), strict=True) if len(payload) <= largest
    )
    until(lambda: subscriber._step() or broker.client.llen("dead") == 12 - taken, "dead letters")
    limited(0)
    aside = broker.client.lrange("_leased.set-aside", 0, -1)
    assert sorted(aside) == sorted(payload for payload in whole if len(payload) > largest)
    said = [json.loads(letter) for letter in broker.client.lrange("dead", 0, -1)]
    assert len(said) == len(aside) >= 4
    for letter in said:
        assert "is kept whole in _leased.set-aside" in letter["reason"]
        assert json.loads(letter["payload"])["headers"]["id"] == "run-7"


def test_what_a_dead_consumer_held_goes_back_in_parts_that_are_bounded_in_bytes(broker, leased):
    publish(broker, *[str(i).rjust(300_000) for i in range(12)])
    holder = Subscriber(leased(), prefetch=1000)
    holder.drain(12)
    holder.channel._keeper.stopped.set()
    broker.client.config_resetstat()
    second = Subscriber(leased(), prefetch=1000)
    assert sorted(int(body) for body in second.drain(12)) == list(range(12))
    assert broker.client.info("commandstats")["cmdstat_hscan"]["calls"] >= 2


def test_what_is_held_of_large_messages_is_bounded_in_bytes_and_said_once(
    broker, leased, monkeypatch, caplog
):
    monkeypatch.setattr(lease, "MOST_HELD_BYTES", 1_000_000)
    publish(broker, *[str(i).rjust(150_000) for i in range(20)])
    subscriber = Subscriber(leased(), prefetch=1000)
    done: list[int] = []
    while len(done) < 20:
        subscriber.drain(1)
        held = subscriber.rest()
        assert len(held) <= 6  # of 200,000 bytes, and those of one claim
        done += map(int, held)
        for message in subscriber.messages:
            message.ack()
        subscriber.messages.clear()
    assert sorted(done) == list(range(20))
    assert not subscriber.channel.qos.large
    assert caplog.text.count("large messages are held") == 1
