import io
from typing import Any

import msgspec
import pytest

from queuebench.figures import comparison
from queuebench.figures.findings import SetAside
from queuebench.figures.records import Summary
from queuebench.report import words
from queuebench.report.table import Cell, rows
from queuebench.report.terminal import show
from tests.records import START, shipped, summary_of

SQS = {"QUEUE": "SQS", "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:1"}


def named(run_id: str, **more: Any) -> Summary:
    return summary_of(shipped(**more) | {"run_id": run_id})


def test_repeats_are_merged_into_median_and_spread() -> None:
    runs = [
        named(
            f"r{number}",
            publish_seconds=seconds,
            settings={"REDIS_PUBSUB_URL": f"redis://127.0.0.1:{number}/0"},
        )
        for number, seconds in enumerate((0.1, 0.2, 0.5), start=1)
    ]
    (group,) = comparison.group(runs)
    assert (words.group_name(group), len(group.runs)) == ("Redis", 3)
    publish = next(row for row in rows([group]) if row.name == "publish")
    assert publish.cells[0] == Cell("50,000/s", "20,000/s … 100,000/s")
    assert group.middle.rates.publish == 50_000


def test_queues_are_columns_and_other_settings_tell_columns_apart() -> None:
    runs = [named("a"), named("b", settings=SQS), named("c", settings={"WORKER_SLOTS": "50"})]
    names = [words.group_name(group) for group in comparison.group(runs)]
    assert names == ["Redis, WORKER_SLOTS=1000", "local SQS", "Redis, WORKER_SLOTS=50"]


def test_runs_of_different_sizes_are_no_repeats() -> None:
    names = [words.group_name(group) for group in comparison.group([named("a"), named("b", messages=5_000)])]
    assert names == ["Redis, 10,000 messages", "Redis, 5,000 messages"]


def test_a_figure_that_nobody_has_is_no_row() -> None:
    names = {row.name for row in rows(comparison.group([named("a")]))}
    assert "SQS requests a message" not in names
    assert "push" in names


def test_local_sqs_is_called_so_wherever_it_is_shown() -> None:
    out = io.StringIO()
    assert show([named("a", settings=SQS)], file=out) == 0
    assert "local SQS" in out.getvalue()
    assert "what AWS would bill" in out.getvalue()
    assert "(SQS)" not in out.getvalue().replace("a million (SQS)", "")


@pytest.mark.parametrize(("lost", "flaws", "code"), [(0, [], 0), (1, [], 1), (0, [SetAside()], 1)])
def test_exit_codes(lost: int, flaws: list[SetAside], code: int) -> None:
    good, other = named("a"), named("b")
    counts = msgspec.structs.replace(other.counts, lost=lost)
    other = msgspec.structs.replace(other, counts=counts, flaws=flaws)
    out = io.StringIO()
    assert show([good, other], file=out) == code
    assert comparison.exit_code([good, other]) == code


def test_no_runs_are_no_success() -> None:
    assert show([], file=io.StringIO()) == 1


def test_the_verdict_comes_first_with_its_reason() -> None:
    out = io.StringIO()
    show([named("bad-run", messages=10, ended="not finished")], file=out)
    first = out.getvalue().splitlines()[0]
    assert first.startswith("bad-run (Redis): NOT VALID: the run did not finish")


def test_markup_in_names_is_printed_as_it_is() -> None:
    out = io.StringIO()
    show([named("[bold]x[/bold]", label="[red]l[/red]")], file=out)
    assert "[bold]x[/bold]" in out.getvalue()
    assert "[red]l[/red]" in out.getvalue()


def test_a_target_of_one_s_own_is_answered() -> None:
    out = io.StringIO()
    show([named("a", slots=1000)], 5_000_000, 2.0, file=out)
    assert "5,000,000 in 2 hours:" in out.getvalue()


def test_an_invalid_repeat_is_shown_but_its_figures_are_not_counted_in() -> None:
    runs = [named(f"r{number}", publish_seconds=0.2) for number in range(3)]
    runs.append(named("bad", publish_seconds=5.0, ended="not finished"))
    (group,) = comparison.group(runs)
    found = {row.name: row.cells[0] for row in rows([group])}
    assert found["verdict"].text == "4 runs: 3 valid, 1 NOT VALID"
    assert found["publish"] == Cell("50,000/s")
    assert found["delivered"].text == "40,000"


def test_what_repeats_together_need_follows_from_their_medians() -> None:
    runs = [named(f"r{number}", worker_cpu=cpu, slots=1000) for number, cpu in enumerate((11.0, 20.0, 50.0))]
    (group,) = comparison.group(runs)
    answer = group.how_many(1_000_000, 1.0)
    assert answer is not None
    assert "500/s a worker process (1 core ÷ 2 ms of CPU a message)" in words.arithmetic(answer)[2]


REDIS = {
    "version": "7.0.15",
    "run_id": "r",
    "at": START,
    "used_memory": 1,
    "restarts": 0,
    "appendonly": "yes",
    "appendfsync": "everysec",
    "counters": {},
    "cpu_seconds": 1.0,
    "evicted_keys": 0,
    "refused_for_memory": 0,
    "busy_seconds": 0.0,
    "busy_cpu_seconds": 0.0,
    "peak_memory": 1,
    "peak_before": 0,
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": "9.1.0"}, "redis_queue 9.1.0"),
        ({"appendonly": "no"}, "redis_queue_appendonly=no"),
        ({"appendfsync": "always"}, "redis_queue_appendfsync=always"),
        ({"run_id": "another", "used_memory": 99, "cpu_seconds": 9.0, "restarts": 1}, None),
    ],
    ids=str,
)
def test_runs_on_servers_that_keep_what_they_have_in_another_way_are_no_repeats(
    changes: dict[str, Any], said: str | None
) -> None:
    runs = [named("a", servers={"queue": REDIS}), named("b", servers={"queue": REDIS | changes})]
    groups = comparison.group(runs)
    assert len(groups) == (1 if said is None else 2)
    if said is not None:
        assert said in words.group_name(groups[1])
