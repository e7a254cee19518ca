"""Which room of the package may use which: docs/architecture.md, held against the code's own imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "queuebench"
ROOT = PACKAGE.parent
# The ground floor, which every room stands on: it uses nothing of the rooms.
GROUND = {"settings", "message", "errors", "prices", "plumbing"}
# A room → the rooms below it that it may use. There is no circle: each is above all that it uses.
MAY_USE: dict[str, set[str]] = {
    "local_sqs": set(),
    "queues": set(),
    "broker": {"queues"},
    "measuring": set(),
    "load": set(),
    "figures": {"measuring"},
    "report": {"figures", "measuring"},
    "endpoint": {"measuring"},
    "pipeline": {"broker", "figures", "load", "measuring", "queues", "report"},
    "monitor": {"broker", "figures", "measuring", "queues", "report"},
    "bench": {"figures", "queues", "report"},
    "experiment": {"bench", "broker", "endpoint", "figures", "measuring", "queues", "report"},
    "pytest_plugin": set(),
}
# What a room must do without, however far away it is imported.
NEVER = {
    "queues": {"celery", "kombu", "dotenv"},
    "figures": {"redis", "requests", "celery", "kombu", "boto3", "rich", "starlette"},
    "measuring": {"redis", "celery", "kombu", "boto3", "rich", "starlette"},
    "load": {"time", "redis", "requests", "celery", "kombu", "boto3", "rich", "starlette"},
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield every module that is imported when the code runs, at its start or later."""
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "queuebench":
                yield from (f"queuebench.{alias.name}" for alias in node.names)
            else:
                yield node.module


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def test_every_room_uses_only_rooms_below_it() -> None:
    wrong = []
    for module, tree in modules():
        room = room_of(module)
        if room in ("__main__", "__init__"):
            continue
        for name in imported(tree):
            used = room_of(name)
            allowed = GROUND | ({room} | MAY_USE[room] if room not in GROUND else set())
            if name.startswith("queuebench.") and used not in allowed:
                wrong.append(f"{module} uses {name}")
    assert wrong == []


def test_the_rooms_have_no_circle() -> None:
    left = dict(MAY_USE)
    while left:
        free = [room for room, used in left.items() if not used & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for room in free:
            del left[room]


def test_every_folder_is_a_room_that_the_table_has() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == MAY_USE.keys() - {"pytest_plugin"} | {"plumbing"}


@pytest.mark.parametrize("room", sorted(NEVER))
def test_a_room_does_without_what_it_must_not_know(room: str) -> None:
    for module, tree in modules():
        if room_of(module) == room and not (room == "queues" and module.endswith(("redis_list", "sqs"))):
            tops = {name.partition(".")[0] for name in imported(tree)}
            assert not tops & NEVER[room], module


def test_no_file_is_a_room_without_walls() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := path.read_text().count("\n")) > 500
    }
    assert long == {}


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


def test_every_page_is_reached_from_the_readme_which_has_at_most_200_lines() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 200
    for page in PAGES[1:]:
        assert f"docs/{page.name}" in readme or f"]({page.name})" in readme, page.name
