"""One request on its way through the actions: its queue, its address, what the bill needs to know."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from queuebench.local_sqs.engine import ACCOUNT, Engine
from queuebench.local_sqs.errors import SqsError, queue_does_not_exist, throttled
from queuebench.local_sqs.queue import Queue
from queuebench.local_sqs.validation import Json, required

# https://docs.aws.amazon.com/general/latest/gr/sqs-service.html, and the legacy endpoints there
_REGION_OF_HOST = re.compile(r"https?://(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.")


@dataclass(slots=True)
class Call:
    """One request on its way: what the reply and the bill need to know of it.

    Args:
        now: seconds since the epoch.
        host: what the request's Host header names, for queue URLs.
        trace: the request's X-Amzn-Trace-Id, which becomes the message's where it names none itself.
    """

    now: float
    host: str
    trace: str = ""
    queue: Queue | None = None
    payload_bytes: int = 0

    @property
    def queue_name(self) -> str | None:
        """Return the name of the queue that the request is about, once it is known."""
        return None if self.queue is None else self.queue.name


# a host, and no path
_NO_QUEUE = re.compile(r"https?://[^/]*/*")

# What an action does: a request's JSON in, the reply's JSON out; an SqsError is what the client sees instead.
Action = Callable[[Json, Call], Json]


def queue_of(engine: Engine, request: Json, call: Call, limited: str | None = None) -> Queue:
    """Return the queue that a request's QueueUrl names; `limited` is the kind of call that a quota counts.

    Raises:
        SqsError: there is no such queue, or its quota is used up.
    """
    queue = call.queue = engine.queue(_name_in(required(request, "QueueUrl", str), engine.region))
    if limited is not None and not queue.admits_call(limited, call.now):
        raise throttled()
    return queue


def queue_url(name: str, call: Call) -> str:
    """Return a queue's address, on the host that was asked."""
    return f"http://{call.host}/{ACCOUNT}/{name}"


def _name_in(url: str, region: str) -> str:
    """Return the queue's name in a QueueUrl, …/account/name; AWS takes the bare name as well.

    Raises:
        SqsError: it is an address without a queue, or names another account or region.
    """
    if _NO_QUEUE.fullmatch(url):
        raise SqsError("InvalidAddress", f"The address {url} is not valid for this endpoint.")
    account, _, name = url.rstrip("/").rpartition("/")
    account = account.rpartition("/")[2]
    if len(account) == 12 and account.isdecimal() and account != ACCOUNT:
        raise queue_does_not_exist()
    found = _REGION_OF_HOST.match(url)
    if found and (found[1] or found[2]) != region:
        raise queue_does_not_exist()
    return name
