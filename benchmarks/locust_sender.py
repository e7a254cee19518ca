"""What locust runs for benchmarks.pacing: users that each push at a constant throughput to a Redis list.

`constant_throughput` is the mode of locust that comes closest to an open loop: a user waits until its next
send is due, however long the last one took, as long as that was shorter.
"""

# mypy: disable-error-code="misc, untyped-decorator, import-not-found"
import json
import os
import time
from pathlib import Path

import redis
from locust import User, constant_throughput, events, task

RATE, USERS = float(os.environ["RATE"]), int(os.environ["USERS"])
BODY = b'{"p":"+5511999990000","m":"Your order has left our warehouse and arrives tomorrow.","i":1}'
EACH = RATE / USERS
# What is sent before all users are there, and have found their pace, is left out.
lateness: list[float] = []
began = ended = 0.0
ready = False


@events.spawning_complete.add_listener
def _ready(user_count: int, **_: object) -> None:
    global ready
    ready = True


@events.quitting.add_listener
def _tell(environment: object, **_: object) -> None:
    found = sorted(lateness)
    told = {
        "sent": len(found),
        "seconds": ended - began,
        "p50": found[len(found) // 2] if found else 0.0,
        "p99": found[int(len(found) * 0.99)] if found else 0.0,
    }
    Path(os.environ["TOLD"]).write_text(json.dumps(told))


class Sender(User):
    wait_time = constant_throughput(EACH)

    def on_start(self) -> None:
        self.client = redis.Redis(port=int(os.environ["REDIS_PORT"]))
        self.first, self.sent = 0.0, 0

    @task
    def send(self) -> None:
        global began, ended
        now = time.time()
        if ready:
            began = began or now
            self.first = self.first or now
            lateness.append(now - self.first - self.sent / EACH)
            self.sent += 1
            ended = now
        self.client.rpush("phone_numbers", BODY)
