"""All that can go wrong, and is tried: a row of the table each."""

from __future__ import annotations

import signal

from tests.faults import gateway
from tests.faults.answers import (
    RETRY_AFTER,
    answer_in_its_place,
    away,
    keep_none,
    no_right,
    other_type,
    outlast_visibility,
    refuse,
    spoil,
    with_endpoint,
    with_sqs,
)
from tests.faults.connections import (
    close_all,
    close_one,
    close_what_is_idle,
    closed_at_work,
    closed_while_idle,
    half_open_at_work,
    half_open_while_idle,
)
from tests.faults.kind import (
    ALWAYS,
    BOTH,
    BROKER_REPLICA,
    GATEWAY,
    HASTY,
    LINED,
    MANY,
    POISONED,
    QUEUE_REPLICA,
    SEVERAL,
    Kind,
)
from tests.faults.processes import (
    freeze,
    kill_again_and_again,
    kill_broker,
    kill_endpoint,
    kill_monitor,
    kill_publisher,
    kill_queue,
    kill_subscriber,
    kill_while_tasks_wait,
    kill_worker,
    poison,
    stall,
    stop,
)
from tests.faults.redis_servers import (
    REFUSALS,
    cut,
    fail_over_after_a_kill,
    fail_over_as_planned,
    fill_broker,
    fill_queue,
    refuse_for_now,
)
from tests.scripted_endpoint import status

_REDIS, _SQS = ("REDIS",), ("SQS",)

KINDS = [
    Kind("kill -9 of the publisher", kill_publisher),
    Kind("kill -9 of the only subscriber", kill_subscriber),
    Kind("kill -9 of one of three subscribers", kill_subscriber, layout=MANY),
    Kind("kill -9 of the only worker", kill_worker),
    Kind("kill -9 of one of two workers", kill_worker, layout=MANY),
    Kind("kill -9 of the only worker, ten shipments a task", kill_worker, layout=SEVERAL),
    Kind("kill -9 of the endpoint", kill_endpoint),
    Kind("kill -9 of the monitor", kill_monitor),
    Kind("kill -9 of the broker's Redis, appendfsync always", kill_broker, layout=ALWAYS),
    Kind("kill -9 of the broker's Redis, appendfsync everysec", kill_broker, loses=True),
    Kind("kill -9 of the queue's Redis, appendfsync always", kill_queue, _REDIS, ALWAYS),
    Kind("kill -9 of the queue's Redis, appendfsync everysec", kill_queue, _REDIS, loses=True),
    Kind("kill -9 of the local SQS", kill_queue, _SQS),
    Kind("kill -9 of the subscriber every few seconds", kill_again_and_again("subscriber"), repeats=5),
    Kind("kill -9 of the worker every few seconds", kill_again_and_again("worker"), repeats=5),
    *(
        Kind(
            f"{number.name} of {'the local SQS or the queue’s Redis' if role == 'queue' else f'the {role}'}",
            stop(role, number),
        )
        for role in ("publisher", "subscriber", "worker", "endpoint", "monitor", "broker", "queue")
        for number in (signal.SIGTERM, signal.SIGINT)
    ),
    Kind("the endpoint fails 5 % of the POSTs", with_endpoint({"ENDPOINT_FAIL_SHARE": "0.05"}, 3000)),
    Kind(
        "the endpoint answers 5 % of the POSTs after 30 s",
        with_endpoint({"ENDPOINT_SLOW_SHARE": "0.05", "ENDPOINT_SLOW_SECONDS": "30"}, 2000),
    ),
    Kind("the endpoint refuses connections for 20 s", refuse(20.0)),
    Kind("the endpoint refuses connections for 3 minutes", refuse(180.0), rare=True),
    Kind("SIGTERM of the worker while the endpoint refuses connections", refuse(20.0, True)),
    Kind(
        "SIGTERM of the worker while the endpoint refuses connections, ten shipments a task",
        refuse(20.0, True),
        layout=SEVERAL,
    ),
    Kind("interim answers before 5 % of the answers", spoil(gateway.interim, 20), layout=GATEWAY),
    Kind("an answer too many after 5 %", spoil(gateway.one_too_many, 20, True), layout=GATEWAY),
    Kind("headers that drip without end in 2 %", spoil(gateway.drip_headers, 50, True), layout=GATEWAY),
    Kind("bodies that drip without end in 5 %", spoil(gateway.drip_body, 20), layout=GATEWAY),
    Kind("bodies without end in 2 %", spoil(gateway.endless_body, 50), layout=GATEWAY),
    Kind("503 with Retry-After for 6 s", answer_in_its_place(RETRY_AFTER, 6.0), layout=GATEWAY),
    Kind(
        "503 with Retry-After to a tenth for 6 s", answer_in_its_place(RETRY_AFTER, 6.0, 10), layout=GATEWAY
    ),
    Kind("502 for 6 s", answer_in_its_place(status(502), 6.0), layout=GATEWAY),
    Kind("401 for 6 s", answer_in_its_place(status(401), 6.0), layout=GATEWAY),
    Kind(
        "dead letters that can't be kept for 5 to 10 s", keep_none(other_type), layout=GATEWAY, refuses=True
    ),
    Kind("no right to keep dead letters for 5 to 10 s", keep_none(no_right), layout=GATEWAY, refuses=True),
    Kind("the local SQS throttles 30 % of the calls", with_sqs("throttling", 0.3, 0.0), _SQS),
    Kind("the local SQS fails 20 % of the entries", with_sqs("failed_entries", 0.2, 0.0), _SQS),
    Kind("the local SQS answers 500 to 5 % of the calls", with_sqs("errors", 0.05, 0.1), _SQS),
    Kind("the local SQS throttles every call for 10 s", away("throttling", 10.0), _SQS),
    Kind("the local SQS answers 500 to every call for 10 s", away("errors", 10.0), _SQS),
    Kind("the local SQS delivers 10 % twice", with_sqs("duplicate_deliveries", 0.1, 0.2), _SQS),
    Kind("the visibility timeout runs out during a hand-over", outlast_visibility, _SQS, HASTY),
    Kind("the queue's Redis at its maxmemory", fill_queue, _REDIS),
    Kind("the broker's Redis at its maxmemory", fill_broker),
    Kind("replies of Redis to the publisher cut", cut("publisher"), _REDIS, LINED),
    Kind("replies of the queue's Redis to the subscriber cut", cut("subscriber"), _REDIS, LINED),
    Kind("replies of the broker's Redis to the subscriber cut", cut("subscriber", "broker"), layout=LINED),
    Kind("replies of the broker's Redis to the worker cut", cut("worker", "broker"), layout=LINED),
    Kind("a task that kills its worker", poison, layout=POISONED, rare=True, dead_letters=1),
    *(
        Kind(
            f"{'the local SQS or the queue’s Redis' if role == 'queue' else f'the {role}'} "
            "stopped (SIGSTOP) for 6 to 8 s",
            stall(role),
        )
        for role in ("subscriber", "worker", "endpoint", "monitor", "broker", "queue")
    ),
    Kind("the subscriber stopped (SIGSTOP) for 14 to 18 s", freeze("subscriber")),
    Kind("the worker stopped (SIGSTOP) for 14 to 18 s", freeze("worker")),
    Kind("one of three subscribers stopped (SIGSTOP) for 14 to 18 s", freeze("subscriber"), layout=MANY),
    Kind("one of two workers stopped (SIGSTOP) for 14 to 18 s", freeze("worker"), layout=MANY),
    Kind("kill -9 of the worker, twice, while it holds tasks for later", kill_while_tasks_wait, repeats=2),
    *(
        Kind(
            f"{code} from the {of} Redis for 10 s",
            refuse_for_now(server, code),
            queues,
            LINED,
        )
        for of, server, queues in (("broker's", "broker", BOTH), ("queue's", "redis", _REDIS))
        for code in REFUSALS
    ),
    *(
        Kind(
            f"{name} {when}",
            act(close, server, times),
            queues,
            LINED,
            repeats=times,
        )
        for server, of, queues in (
            ("broker", "of the broker's Redis", BOTH),
            ("redis", "of the queue's Redis", _REDIS),
            ("sqs", "to the local SQS", _SQS),
        )
        for close, name, many in (
            (close_all, f"all connections {of} closed", 3),
            (close_one, f"one connection {of} closed", 5),
        )
        for when, act, times in (("while idle", closed_while_idle, many), ("at work", closed_at_work, many))
    ),
    Kind("the broker's Redis closes what is idle (timeout 1)", close_what_is_idle("broker")),
    Kind("the queue's Redis closes what is idle (timeout 1)", close_what_is_idle("redis"), _REDIS),
    *(
        Kind(
            f"half-open connections between {role} and {'broker' if server else 'queue'} {when}",
            act(role, server),
            layout=LINED,
        )
        for role, server in (
            ("worker", "broker"),
            ("subscriber", "broker"),
            ("subscriber", ""),
            ("publisher", ""),
        )
        for when, act in (("while idle", half_open_while_idle), ("at work", half_open_at_work))
        if role != "publisher" or when == "at work"
    ),
    *(
        Kind(
            f"all that {role} and {'broker' if server else 'queue'} say swallowed for 8 s",
            half_open_at_work(role, server, 8.0),
            layout=LINED,
        )
        for role, server in (("worker", "broker"), ("subscriber", ""))
    ),
    Kind(
        "a planned failover of the broker's Redis, there and back",
        fail_over_as_planned,
        layout=BROKER_REPLICA,
        repeats=2,
    ),
    Kind(
        "a planned failover of the queue's Redis, there and back",
        fail_over_as_planned,
        _REDIS,
        QUEUE_REPLICA,
        repeats=2,
    ),
    Kind(
        "kill -9 of the broker's Redis, a replica takes over",
        fail_over_after_a_kill,
        layout=BROKER_REPLICA,
        loses=True,
    ),
    Kind(
        "kill -9 of the queue's Redis, a replica takes over",
        fail_over_after_a_kill,
        _REDIS,
        QUEUE_REPLICA,
        loses=True,
    ),
]
