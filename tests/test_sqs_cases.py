"""The cases of the benchmark: the sentences are AWS's, and the local SQS does what they say."""

from __future__ import annotations

import re
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

import botocore.loaders
import pytest
from botocore import xform_name

from benchmarks.sqs_cases import CASES, Asked, Case
from tests import local_sqs_fixtures as fixtures
from tests.local_sqs_fixtures import LocalSqs

local_server = fixtures.local_server


@cache
def reference() -> dict[str, Any]:
    model: dict[str, Any] = botocore.loaders.Loader().load_service_model("sqs", "service-2")
    return model


@pytest.fixture(scope="session")
def asked(local_server: LocalSqs) -> Asked:
    return Asked(local_server.url)


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html))).strip()


def test_every_action_has_a_case() -> None:
    called = {
        name
        for file in (Path(__file__).parents[1] / "benchmarks" / "sqs_cases").glob("*.py")
        for name in re.findall(r"client\.([a-z_]+)", file.read_text())
    }
    missing = {action for action in reference()["operations"] if xform_name(action) not in called}
    assert missing == set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_its_sentence_is_in_the_reference(case: Case) -> None:
    model = reference()
    shape, _, member = case.place.partition(".")
    found = model["operations"].get(shape) or model["shapes"][shape]
    found = found["members"][member] if member else found
    assert plain(case.sentence) in plain(found["documentation"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_holds(case: Case, asked: Asked) -> None:
    case.holds(asked)
