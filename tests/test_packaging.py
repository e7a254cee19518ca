"""What the wheel asks for, and what `requirements.txt` pins, agree."""

from __future__ import annotations

import re
import tomllib
from itertools import chain

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from queuebench.__main__ import VERBS, main
from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def ranges() -> dict[str, Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    asked = [*PROJECT["dependencies"], *chain.from_iterable(extras)]
    found: dict[str, Requirement] = {canonicalize_name(one.name): one for one in map(Requirement, asked)}
    del found["queuebench"]
    return found


@pytest.mark.parametrize("pin", pins(), ids=lambda pin: pin.name)
def test_each_pin_lies_in_its_range(pin: Requirement) -> None:
    (version,) = re.findall(r"^==(\S+)$", str(pin.specifier))
    asked = ranges()[canonicalize_name(pin.name)]
    assert asked.specifier.contains(version), f"{pin} is not in {asked}"
    assert (pin.extras, str(pin.marker)) == (asked.extras, str(asked.marker))


def test_what_the_wheel_asks_for_is_pinned() -> None:
    assert set(ranges()) == {canonicalize_name(pin.name) for pin in pins()}


def test_the_transport_has_one_minor_version_of_what_it_is_built_on() -> None:
    for name in ("kombu", "celery"):
        (pin,) = (pin for pin in pins() if pin.name == name)
        major, minor, _ = str(pin.specifier).removeprefix("==").split(".")
        assert not ranges()[name].specifier.contains(f"{major}.{int(minor) + 1}.0")


def test_the_usage_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    said = capsys.readouterr()
    for usage in (said.err, said.out):
        assert all(f"  {verb} " in usage for verb in VERBS)
