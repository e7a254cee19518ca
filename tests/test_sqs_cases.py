"""The cases of the benchmark: the sentences are AWS's, and the local SQS does what they say."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import botocore.loaders
import pytest

from benchmarks.sqs_cases import CASES, Asked, Case
from tests import local_sqs_fixtures as fixtures
from tests.local_sqs_fixtures import LocalSqs

local_server = fixtures.local_server


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html))).strip()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_its_sentence_is_in_the_reference(case: Case) -> None:
    model: dict[str, Any] = botocore.loaders.Loader().load_service_model("sqs", "service-2")
    shape, _, member = case.place.partition(".")
    found = model["operations"].get(shape) or model["shapes"][shape]
    found = found["members"][member] if member else found
    assert plain(case.sentence) in plain(found["documentation"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_holds(case: Case, local_server: LocalSqs) -> None:
    case.holds(Asked(local_server.url))
