"""What is shown has no secret of a URL, and any encoding takes it."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuebench.bench.stack import clean_environment
from queuebench.errors import QueueError
from queuebench.plumbing.printable import escape_record, safe_text, safe_url, to_text
from tests import ROOT


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:s3cret@10.0.0.1:6379/0", "redis://***@10.0.0.1:6379/0"),
        ("redis://:s3#cret@h:1/0", "redis://***@h:1/0"),
        ("redis://user:12/s3cret@h/0", "redis://***@h/0"),
        ("redis://:a@s3/cret@host", "redis://***@host"),
        ("redis://:s3 cret@host/1", "redis://***@host/1"),
        ("rediss://h?password=s3cret&ssl_cert_reqs=none", "rediss://h?password=***&ssl_cert_reqs=***"),
        ("http://user:p?w=s3cret@host/x", "http://***@host/x"),
        ("http://user:12/s3cret@host/x", "http://***@host/x"),
        ("https://host/@me/push?token=s3cret&s3cret", "https://host/***?token=***&***"),
        ("http://host/push?mail=s3@cret&empty=", "http://host/push?mail=***&empty="),
        ("http://host:80/push;id=s3cret?a=b;c=d#s3cret", "http://host:80/push;id=***?a=***;c=***#***"),
        ("https://host?next=http://u:s3cret@x/", "https://host?next=***"),
        ("user:s3cret@host:6379", "***@host:6379"),
        ("http://[::1]:80/x?y=s3cret", "http://[::1]:80/x?y=***"),
        ("http://host/push", "http://host/push"),
        ("http://host/push/", "http://host/push/"),
        ("https://hooks.example.com/services/T0/B0/s3cret", "https://hooks.example.com/services/***"),
        ("https://host/s3cret", "https://host/***"),
        ("https://host/push%2Fs3cret", "https://host/***"),
        ("https://host//s3cret/push", "https://host/***"),
        ("hooks.example.com/services/s3cret", "hooks.example.com/services/***"),
        ("ftp://host/a/s3cret", "ftp://host/a/***"),
        ("redis://host/s3cret", "redis://host/***"),
        ("rediss://host/12", "rediss://host/12"),
        ("unix:///run/redis-2/socket", "unix:///run/redis-2/socket"),
        # The @ is escaped as well, or forgotten with what follows it.
        ("http://user:s3cret%40host/x", "http://***/x"),
        ("redis://:s3cret", "redis://***"),
        ("redis://user:s3cret/0", "redis://***/0"),
        ("http://user%3As3cret@host", "http://***@host"),
        ("://", "://"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert safe_url(url) == shown
    assert "s3" not in safe_url(url)


@given(
    st.text(alphabet="ab1:/?#@&;=[]%. *", max_size=40), st.sampled_from(["http://", "redis://", "", "x+y://"])
)
def test_what_is_fit_to_be_seen_stays_as_it_is(rest: str, scheme: str) -> None:
    assert safe_url(safe_url(scheme + rest)) == safe_url(scheme + rest)
    assert safe_text(safe_text(scheme + rest)) == safe_text(scheme + rest)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "Pool(host='h'): Max retries exceeded with url: /push?token=s3cret (Caused by x)",
            "Pool(host='h'): Max retries exceeded with url: /push?token=*** (Caused by x)",
        ),
        ("InvalidURL: 'http://u:s3cret@h/p?t=1': no", "InvalidURL: 'http://***@h/p?t=***': no"),
        ("with url: /services/s3cret (Caused by x)", "with url: /services/*** (Caused by x)"),
        ("see https://h/z?a=s3cret, and redis://:s3cret@h.", "see https://h/z?a=***, and redis://***@h."),
        ("really? yes / no", "really? yes / no"),
    ],
)
def test_the_urls_in_a_text_are_shown_without_their_secrets(text: str, shown: str) -> None:
    assert safe_text(text) == shown
    assert str(QueueError(text)) == shown


def test_a_log_record_shows_none_in_its_message_nor_in_its_traceback() -> None:
    try:
        raise ValueError("http://u:s3cret@h/?t=s3cret")
    except ValueError:
        record = logging.LogRecord("x", 30, "x", 1, "at %s", ("redis://:s3cret@h",), sys.exc_info())
    assert escape_record(record)
    assert "s3cret" not in logging.Formatter().format(record)
    assert "ValueError: http://***@h/?t=***" in logging.Formatter().format(record)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_how_bytes_are_read(encoding: str) -> None:
    assert to_text("olá ✓".encode(encoding)) == "olá ✓"


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize(
    "command",
    [
        "publisher.py 1",
        "subscriber.py",
        "-m queuebench",
        "-m queuebench dead-letters",
        "-m queuebench monitor --port 0",
        "-m queuebench endpoint --port 0",
        "-m queuebench report é→",
        "-m queuebench bench --set é→=1",
        "-m queuebench sqs --port 99999",
        "-m celery -A task worker",
    ],
)
def test_any_output_encoding_is_survived(command: str, encoding: str) -> None:
    environment = clean_environment() | {
        "PYTHONIOENCODING": encoding,
        "QUEUE": "é→\U0001f680",
        "REDIS_PUBSUB_URL": "redis://127.0.0.1:1/→",
    }
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=ROOT, env=environment, capture_output=True, timeout=300
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr and b"UnicodeEncodeError" not in done.stderr


def test_an_arrow_in_an_ascii_terminal_is_escaped() -> None:
    code = "from queuebench.plumbing.printable import *; make_output_safe(); print('a → b')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean_environment() | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"a \\u2192 b\n"
