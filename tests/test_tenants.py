"""Tenants that share a queue: in the bodies, as message groups, and as figures of their own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from queuebench import settings
from queuebench.errors import SettingsError
from queuebench.load.bodies import Texts, head_of, timed
from queuebench.load.tenants import NOISY, tenant_of, with_tenants
from queuebench.measuring.records import Stage
from queuebench.message import Message, decode
from queuebench.pipeline.subscriber import tenants_waits
from queuebench.queues.sqs import Sqs as SqsQueue
from tests import local_sqs_fixtures as fixtures
from tests.local_sqs_fixtures import LocalSqs, Sqs, fresh_name

local = fixtures.local
local_server = fixtures.local_server


@pytest.mark.parametrize("tenants", [2, 3, 20, 1000])
def test_one_tenant_is_noisy_and_the_others_have_the_rest_alike(tenants: int) -> None:
    counts = Counter(tenant_of(number, tenants) for number in range(20_000))
    assert len(counts) == tenants
    assert counts.pop(NOISY) == 10_000
    assert max(counts.values()) - min(counts.values()) <= 2


def test_a_body_names_its_tenant() -> None:
    heads = [*Texts().take(28).heads, head_of(b'{"p":"1","m":"x"}') or b""]
    bodies = timed("r", with_tenants(heads, 9_990, 20), 9_990, [1.8e9] * len(heads))
    for number, body in enumerate(bodies, 9_990):
        message = decode(body)
        assert (message.number, message.tenant) == (number, tenant_of(number, 20))
        assert decode(message.encode()) == message
    assert with_tenants([b'{"i":'], 1, 2) == [b'{"g":"quiet-1","i":']
    # what stands under that key in strangers' messages is no reason to refuse them
    assert decode(b'{"p":"1","m":"x","g":7}').tenant is None


def test_quiet_tenants_and_the_noisy_one_have_waits_of_their_own() -> None:
    def sent(at: float | None, tenant: str | None) -> Message:
        return Message("id", "1", "x", "r", 1, at, tenant)

    messages = [
        sent(90.0, "noisy"),
        sent(99.0, "quiet-1"),
        sent(98.0, "quiet-2"),
        sent(None, "quiet-3"),
        sent(97.0, None),
        sent(96.0, "somebody"),
    ]
    assert dict(tenants_waits(messages, 100.0)) == {
        Stage.QUEUE_WAIT_QUIET: [1.0, 2.0],
        Stage.QUEUE_WAIT_NOISY: [10.0],
    }
    assert list(tenants_waits([sent(97.0, None)], 100.0)) == []


@pytest.mark.parametrize(
    ("suffix", "fair", "groups"),
    [("", False, [None, None]), ("", True, ["noisy", "quiet-1"]), (".fifo", False, ["noisy", "quiet-1"])],
    ids=["standard", "fair", "FIFO"],
)
def test_a_tenant_is_a_message_group_on_fifo_and_fair_queues(
    local: Sqs, local_server: LocalSqs, suffix: str, fair: bool, groups: list[Any]
) -> None:
    name = fresh_name() + suffix
    queue = SqsQueue(
        queue_names=[name],
        aws_region="us-east-1",
        aws_endpoint_url_sqs=local_server.url,
        local_sqs=True,
        aws_create_queues=True,
        sqs_threads=1,
        sqs_fair=fair,
    )
    assert list(queue.publish([b"a", b"b"], 0, 1, ["noisy", "quiet-1"])) == []
    found = local.receive(name, AttributeNames=["MessageGroupId"])
    assert [message.get("Attributes", {}).get("MessageGroupId") for message in found] == groups
    queue.close()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"TENANTS": "1"}, "TENANTS=1"),
        ({"TENANTS": "1001"}, "TENANTS"),
        ({"QUEUE": "SQS", "QUEUE_NAME": "a.fifo", "SQS_FAIR": "1"}, "SQS_FAIR=1 is for standard queues"),
    ],
)
def test_tenants_that_cannot_be_are_refused(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        settings.load(environ)
