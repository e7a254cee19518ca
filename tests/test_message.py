"""The message format, open to producers in any language."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuebench.broker.dead_letters import DeadLetter, of_task
from queuebench.errors import MessageError
from queuebench.message import MAX_BODY_BYTES, Message, decode
from queuebench.plumbing.printable import safe_text


def test_the_smallest_message_is_a_phone_and_a_text() -> None:
    message = decode(b'{"p":"+5511999990000","m":"hello"}', "given-by-the-queue")
    assert message == Message("given-by-the-queue", "+5511999990000", "hello")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"r": "run", "i": 7, "id": "own"}, "run-7"),
        ({"r": "run", "id": "own"}, "own"),
        ({"i": 7, "id": "own"}, "own"),
        ({"i": 7}, "received"),
        ({}, "received"),
    ],
)
def test_an_id_is_run_and_number_else_its_own_else_the_queues(keys: dict[str, Any], expected: str) -> None:
    assert decode(json.dumps({"p": "1", "m": "x", **keys}).encode(), "received").id == expected


def test_without_any_id_each_message_gets_one_of_its_own() -> None:
    assert decode(b'{"p":"1","m":"x"}').id != decode(b'{"p":"1","m":"x"}').id


def test_unknown_keys_are_ignored() -> None:
    assert decode(b'{"p":"1","m":"x","z":[1,{"a":null}]}', "i") == Message("i", "1", "x")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"hello", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"p":"1","m":"\xff"}', "not JSON"),
        (b'{"p":"1","m":"x","t":NaN}', "not JSON"),
        (b'{"p":"1","m":"\\ud800"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object but an array"),
        (b"null", "not a JSON object but null"),
        (b'"text"', "not a JSON object but a string"),
        (b"12", "not a JSON object but a number"),
        (b'{"m":"x"}', "p is missing"),
        (b'{"p":"","m":"x"}', "p is empty"),
        (b'{"p":5511,"m":"x"}', "p must be a string, not a number"),
        (b'{"p":null,"m":"x"}', "p must be a string, not null"),
        (b'{"p":"1"}', "m is missing"),
        (b'{"p":"1","m":""}', "m is empty"),
        (b'{"p":"1","m":["x"]}', "m must be a string, not an array"),
        (b'{"p":"1","m":"x","i":"7"}', "i must be a whole number"),
        (b'{"p":"1","m":"x","i":-1}', "i must be a whole number"),
        (b'{"p":"1","m":"x","i":true}', "i must be a whole number"),
        (b'{"p":"1","m":"x","i":1e3}', "i must be a whole number"),
        (b'{"p":"1","m":"x","r":1}', "r must be a non-empty string"),
        (b'{"p":"1","m":"x","t":"now"}', "t must be Unix seconds"),
        (b'{"p":"1","m":"x","id":""}', "id must be a non-empty string"),
        (b'{"p":"1","m":"' + b"x" * MAX_BODY_BYTES + b'"}', "longer than 1048576 bytes"),
    ],
)
def test_what_is_no_message_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(MessageError, match=reason):
        decode(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(body: bytes) -> None:
    try:
        assert decode(body).phone
    except MessageError as error:
        assert str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["p", "m", "i", "r", "t", "id", "x"]), json_values))
def test_any_object_is_a_message_or_an_error(keys: dict[str, Any]) -> None:
    try:
        message = decode(json.dumps(keys).encode())
    except MessageError as error:
        assert str(error)
    else:
        assert (message.phone, message.text) == (keys["p"], keys["m"])


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(texts, texts, texts | st.none(), st.integers(0, 2**53) | st.none(), texts)
def test_what_is_encoded_is_decoded(
    phone: str, text: str, run: str | None, number: int | None, own: str
) -> None:
    message = Message(
        own if run is None or number is None else f"{run}-{number}", phone, text, run, number, 1.5
    )
    assert decode(message.encode()) == message


@given(st.binary(max_size=100), texts)
def test_a_dead_letter_keeps_any_body(body: bytes, reason: str) -> None:
    letter = DeadLetter(safe_text(reason), body, at=1.0)
    assert DeadLetter.decode(letter.encode()) == letter


def test_a_tasks_dead_letter_knows_the_run_from_the_tasks_id() -> None:
    letter = of_task(orjson.dumps({"headers": {"id": "20261123-1-redis-ab-17"}}), "killed its worker")
    assert (letter.run, letter.number, letter.kind) == ("20261123-1-redis-ab", 17, "task")
    assert of_task(b"nonsense", "x").id == ""


SNS = {
    "Type": "Notification",
    "MessageId": "sns-id",
    "TopicArn": "arn:aws:sns:us-east-1:1:topic",
    "Timestamp": "2026-11-25T00:00:00.000Z",
    "MessageAttributes": {"p": {"Type": "String", "Value": "not the phone"}},
}


@pytest.mark.parametrize(
    ("inner", "expected"),
    [({}, "sns-id"), ({"id": "own"}, "own"), ({"r": "run", "i": 5}, "run-5")],
)
def test_a_notification_of_sns_is_unwrapped(inner: dict[str, Any], expected: str) -> None:
    body = {**SNS, "Message": json.dumps({"p": "1", "m": "olá", **inner})}
    message = decode(json.dumps(body).encode(), "sqs-id")
    assert (message.id, message.phone, message.text) == (expected, "1", "olá")


@pytest.mark.parametrize("text", ["hello", "", "[]", "{}", "\ud800"])
def test_a_notification_of_sns_with_no_message_says_why(text: str) -> None:
    with pytest.raises(MessageError):
        decode(json.dumps({**SNS, "Message": text}).encode())


@pytest.mark.parametrize("units", [1, 10**3, 10**6, 10**9])
def test_t_is_understood_in_seconds_and_in_parts_of_them(units: int) -> None:
    body = {"p": "1", "m": "x", "t": 1_790_000_000 * units}
    assert decode(json.dumps(body).encode()).intended_at == 1_790_000_000.0


@pytest.mark.parametrize("at", [0, -1, 1.5, 1e308, 1e30, 1e11])
def test_a_t_that_is_no_time_stops_no_message(at: float) -> None:
    assert decode(json.dumps({"p": "1", "m": "x", "t": at}).encode()).intended_at == at


@pytest.mark.parametrize("at", ["true", "false", "1" + "0" * 400, "-1" + "0" * 5000, "1e400", "1" + "0" * 30])
def test_a_t_beyond_all_numbers_stops_no_message_either(at: str) -> None:
    message = decode(b'{"p":"1","m":"x","i":7,"t":%s}' % at.encode(), "i")
    assert message.number == 7
    assert message.intended_at is not None and math.isfinite(message.intended_at)


@pytest.mark.parametrize("keys", ['"m":"\\ud800"', '"m":"x","n":NaN', '"m":"x","i":' + "9" * 30])
def test_a_huge_number_lets_nothing_else_through(keys: str) -> None:
    with pytest.raises(MessageError):
        decode(('{"p":"1",' + keys + ',"t":1e400}').encode())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_body_with_a_byte_order_mark_is_read(encoding: str) -> None:
    assert decode('{"p":"1","m":"olá"}'.encode(encoding), "i") == Message("i", "1", "olá")


def test_a_number_that_not_every_json_library_keeps_is_refused() -> None:
    with pytest.raises(MessageError, match="2\\^53"):
        decode(b'{"p":"1","m":"x","r":"r","i":9223372036854775807}')
