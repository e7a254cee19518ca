"""What messages say: texts of a size, and a file's own bodies with a run's keys added."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuebench.errors import SettingsError
from queuebench.load import bodies
from queuebench.load.bodies import Lines, Texts, head_of, of_settings, timed, untimed
from queuebench.message import MAX_BODY_BYTES, decode, place_of
from queuebench.queues.redis_list import RedisList
from queuebench.queues.sqs import Sqs
from queuebench.settings import load

RUN = "20261125-090000-redis-0001"
TIMES = [1_795_435_200.5, 1_795_435_200.75, 1_795_435_201.0]
REDIS = RedisList(redis_pubsub_url="redis://127.0.0.1:1/0", channel_name="x")
SQS = Sqs(
    queue_names=["q"],
    aws_region="us-east-1",
    aws_endpoint_url_sqs="",
    local_sqs=True,
    aws_create_queues=True,
    sqs_threads=1,
)


def takes_all(_body: bytes) -> str:
    return ""


@pytest.mark.parametrize("size", [0, 1, 20, 1000, 65_536, 300_000])
def test_texts_have_the_size_that_was_asked_for(size: int) -> None:
    texts = Texts(size)
    made = timed(RUN, texts.take(3).heads, 5, TIMES)
    messages = [decode(body) for body in made]
    assert [(message.run, message.number) for message in messages] == [(RUN, 5), (RUN, 6), (RUN, 7)]
    assert [message.intended_at for message in messages] == TIMES
    if size:
        assert {len(message.text.encode()) for message in messages} == {size}
    assert max(map(len, made)) <= texts.largest


def test_texts_are_used_in_turn_and_hold_no_more_than_they_may() -> None:
    texts = Texts()
    first = list(texts.take(9_999).heads)
    assert texts.take(2).heads[1:] == first[:1]
    assert len(texts.take(25_000).heads) == 25_000
    assert len(Texts(2**20 - 1000)._heads) * 2**20 <= bodies.HELD_BYTES + 2**20


@pytest.mark.parametrize(
    ("line", "head"),
    [
        (b'{"p":"1","m":"x"}', b'{"p":"1","m":"x","i":'),
        (b"{}", b'{"i":'),
        (b"{ }", b'{ "i":'),
        (b'{"m" : "\\u00e9",\t"n":[1.50, {"i": 2}] }', b'{"m" : "\\u00e9",\t"n":[1.50, {"i": 2}] ,"i":'),
        (b'{"i":7, "p":"1"}', b'{ "p":"1","i":'),
        (b'{"p":"1", "r":"old","m":"x","t":1e3}', b'{"p":"1","m":"x","i":'),
        (b'{"r":{"t":[]},"t":null}', b'{"i":'),
        (b'{"\\u0069":1,"p":"}"}', b'{"p":"}","i":'),
        (b'{"n":1e999}', b'{"n":1e999,"i":'),
        (b'{"n":1e999,"t":12345678901234567890123}', b'{"n":1e999,"i":'),
        (b"[1]", None),
        (b"hello", None),
        (b'"{}"', None),
        (b'{"p":"1"} x', None),
        (b'{"p":"\xff"}', None),
        (b"1e999", None),
    ],
)
def test_an_object_is_kept_as_it_is_but_for_keys_of_ours(line: bytes, head: bytes | None) -> None:
    assert head_of(line) == head


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(["r", "i", "t", "p", "m"]) | st.text(max_size=3)


@given(st.dictionaries(keys, values, max_size=6), st.sampled_from([None, 1]), st.booleans())
def test_whatever_an_object_has_it_gets_ours_and_keeps_the_rest(
    found: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    line = json.dumps(found, indent=indent, ensure_ascii=ascii_only).replace("\n", " ")
    try:
        head = head_of(line.encode())
    except UnicodeEncodeError:
        return
    if head is None:  # lone surrogates, numbers beyond 64 bits: what orjson takes for no JSON
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(line.encode())
        return
    rest = {key: value for key, value in found.items() if key not in ("r", "i", "t")}
    assert json.loads(untimed(RUN, [head], 3)[0]) == rest | {"i": 3, "r": RUN}
    with_time = json.loads(timed(RUN, [head], 3, [1_795_435_200.25])[0])
    assert with_time == rest | {"i": 3, "r": RUN, "t": 1_795_435_200.25}


FILE = b'\xef\xbb\xbf{"p":"1","m":"a"}\r\n\r\nhello\n  {"x":1}  \n[2]\n{"p":"2","m":"b"}'


@pytest.mark.parametrize("held", [bodies.HELD_BYTES, 40])
def test_a_file_s_lines_are_used_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    monkeypatch.setattr(bodies, "HELD_BYTES", held)
    path = tmp_path / "messages.jsonl"
    path.write_bytes(FILE)
    lines = Lines(str(path), takes_all)
    one, two, three = (lines.take(count) for count in (2, 4, 5))
    assert (one.heads, one.as_they_are, one.places) == ([b'{"p":"1","m":"a","i":'], [b"hello"], [0])
    assert (two.heads[0], two.as_they_are, two.places) == (b'{"x":1,"i":', [b"[2]"], [0, 2, 3])
    assert (three.as_they_are, three.places) == ([b"hello", b"[2]"], [1, 3, 4])
    assert lines.largest == len(b'{"p":"2","m":"b","i":') + bodies.ADDED_BYTES


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "has no line"),
        (b"\n \n", "has no line"),
        (b'{"p":"1"}\n{"m":"' + b"x" * MAX_BODY_BYTES + b'"}\n', "line 2: it has 1,048,... bytes"),
        (b"x\n" + b"y" * (bodies.HELD_BYTES + 1), "line 2 is longer than 16,777,216 bytes"),
    ],
    ids=["empty", "blank", "large", "endless"],
)
def test_a_file_that_cannot_be_sent_is_refused_at_the_start(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "messages.jsonl"
    path.write_bytes(data)
    with pytest.raises(SettingsError, match=said) as refused:
        Lines(str(path), REDIS.refuses)
    assert str(refused.value).startswith("MESSAGES_FILE=")
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(SettingsError, match="is no file"):
            Lines(str(missing), takes_all)


def test_a_queue_says_what_it_would_never_take() -> None:
    assert REDIS.refuses(b"\xff\x00") == ""
    assert SQS.refuses("é\t\n😀".encode()) == ""
    assert "not UTF-8" in SQS.refuses(b"\xff")
    assert "'\\x00'" in SQS.refuses(b"a\x00")
    for queue in (REDIS, SQS):
        assert queue.refuses(b"x" * 2**20) == ""
        assert "it has 1,048,577 bytes" in queue.refuses(b"x" * (2**20 + 1))


def test_a_size_that_leaves_no_room_for_the_rest_is_refused() -> None:
    fits = 2**20 - bodies.ADDED_BYTES - 40
    texts = of_settings(load({"MESSAGE_BYTES": str(fits)}), SQS.refuses)
    (body,) = timed(RUN, texts.take(1).heads, 10**12, [1_795_435_200.25])
    assert len(body) <= 2**20
    with pytest.raises(SettingsError, match=r"MESSAGE_BYTES=.*: with its number, run and time it has"):
        of_settings(load({"MESSAGE_BYTES": str(fits + 1)}), SQS.refuses)


def test_what_is_no_message_still_has_its_place_in_a_run() -> None:
    assert place_of(b'{"x":1,"i":3,"r":"run"}') == ("run", 3)
    for body in (b"hello", b"[1]", b'{"i":3}', b'{"r":"run"}', b'{"r":"run","i":-1}', b'{"r":1,"i":1}'):
        assert place_of(body) == (None, None)


def test_lines_that_are_gone_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "HELD_BYTES", 40)
    path = tmp_path / "messages.jsonl"
    path.write_bytes(b"hello\n" * 10)
    lines = Lines(str(path), takes_all)
    path.write_bytes(b"")
    with pytest.raises(SettingsError, match="is empty now"):
        list(islice(iter(lambda: lines.take(5), None), 10_000))
