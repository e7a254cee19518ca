"""`.env.example` names every setting, explains it and changes nothing; docker-compose hands each one on."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise

from dotenv import dotenv_values

from queuebench.settings import Settings, load
from tests import ROOT

EXAMPLE = ROOT / ".env.example"
SETTINGS = {field.name.upper() for field in dataclasses.fields(Settings)}
# boto3's own, and what docker-compose alone reads.
OTHERS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MONITOR_PORT", "FLOWER_PORT"}


def test_every_setting_is_in_it_and_nothing_else() -> None:
    names = re.findall(r"^#?([A-Z_]+)=", EXAMPLE.read_text(), re.M)
    assert sorted(names) == sorted(SETTINGS | OTHERS)


def test_loading_it_equals_loading_nothing() -> None:
    values = dotenv_values(EXAMPLE)
    assert len(values) > 20
    assert load({name: value or "" for name, value in values.items()}) == load({})


def test_every_setting_has_a_comment_above_it() -> None:
    for above, line in pairwise(EXAMPLE.read_text().splitlines()):
        if re.match(r"#?[A-Z_]+=", line):
            assert above.startswith("# ") or re.match(r"#?[A-Z_]+=", above), line


def test_what_is_commented_out_may_be_used_as_it_is() -> None:
    uncommented = re.sub(r"^#([A-Z_]+=)", r"\1", EXAMPLE.read_text(), flags=re.M)
    assert load(dict(re.findall(r"^([A-Z_]+)=(.*)$", uncommented, re.M))).aws_region == "us-east-1"


def test_docker_compose_hands_every_setting_on() -> None:
    named = set(re.findall(r"^ +([A-Z_]+):", (ROOT / "docker-compose.yml").read_text(), re.M))
    assert named >= SETTINGS | OTHERS - {"MONITOR_PORT", "FLOWER_PORT"}
