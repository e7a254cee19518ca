import copy
import io

import pytest

from queuebench.figures import comparison
from queuebench.figures.summary import summarise
from queuebench.report import show
from tests.records import shipped

SQS = {"QUEUE": "SQS", "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:1"}


def named(run_id: str, **more: object) -> dict[str, object]:
    return summarise(shipped(**more) | {"run_id": run_id})  # type: ignore[arg-type]


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
    assert (group.name, len(group.runs)) == ("Redis", 3)
    publish = next(row for row in comparison.rows([group]) if row.name == "publish")
    assert publish.cells[0] == comparison.Cell("50,000/s", "20,000/s … 100,000/s")
    assert group.middle["rates"]["publish"] == 50_000


def test_queues_are_columns_and_other_settings_tell_columns_apart() -> None:
    runs = [named("a"), named("b", settings=SQS), named("c", settings={"WORKER_SLOTS": "50"})]
    names = [group.name for group in comparison.group(runs)]
    assert names == ["Redis, WORKER_SLOTS=1000", "local SQS", "Redis, WORKER_SLOTS=50"]


def test_runs_of_different_sizes_are_no_repeats() -> None:
    names = [group.name for group in comparison.group([named("a"), named("b", messages=5_000)])]
    assert names == ["Redis, 10,000 messages", "Redis, 5,000 messages"]


def test_a_figure_that_nobody_has_is_no_row() -> None:
    rows = {row.name for row in comparison.rows(comparison.group([named("a")]))}
    assert "SQS requests a message" not in rows
    assert "push" in rows


def test_local_sqs_is_called_so_wherever_it_is_shown() -> None:
    out = io.StringIO()
    assert show([named("a", settings=SQS)], file=out) == 0
    assert "local SQS" in out.getvalue()
    assert "what AWS would bill" in out.getvalue()
    assert "(SQS)" not in out.getvalue().replace("a million (SQS)", "")


@pytest.mark.parametrize(("change", "code"), [({}, 0), ({"lost": 1}, 1), ({"reasons": ["clocks"]}, 1)])
def test_exit_codes(change: dict[str, object], code: int) -> None:
    good, other = named("a"), copy.deepcopy(named("b"))
    if "lost" in change:
        other["counts"]["lost"] = 1  # type: ignore[index]
    other |= {name: value for name, value in change.items() if name != "lost"}
    out = io.StringIO()
    assert show([good, other], file=out) == code
    assert comparison.exit_code([good, other]) == code


def test_no_runs_are_no_success() -> None:
    assert show([], file=io.StringIO()) == 1


def test_the_verdict_comes_first_with_its_reason() -> None:
    out = io.StringIO()
    show([summarise(shipped(10, ended="not finished") | {"run_id": "bad-run"})], file=out)
    first = out.getvalue().splitlines()[0]
    assert first.startswith("bad-run (Redis): NOT VALID: the run did not finish")


def test_markup_in_names_is_printed_as_it_is() -> None:
    out = io.StringIO()
    run = named("a") | {"run_id": "[bold]x[/bold]", "warnings": ["[red]w[/red]"]}
    show([run], file=out)
    assert "[bold]x[/bold]" in out.getvalue()
    assert "[red]w[/red]" in out.getvalue()


def test_a_target_of_one_s_own_is_answered() -> None:
    out = io.StringIO()
    show([named("a", slots=1000)], 5_000_000, 2.0, file=out)
    assert "5,000,000 in 2 hours:" in out.getvalue()


def test_an_invalid_repeat_is_shown_but_its_figures_are_not_counted_in() -> None:
    runs = [named(f"r{number}", publish_seconds=0.2) for number in range(3)]
    runs.append(named("bad", publish_seconds=5.0, ended="not finished"))
    (group,) = comparison.group(runs)
    rows = {row.name: row.cells[0] for row in comparison.rows([group])}
    assert rows["verdict"].text == "4 runs: 3 valid, 1 NOT VALID"
    assert rows["publish"] == comparison.Cell("50,000/s")
    assert rows["delivered"].text == "40,000"


def test_what_repeats_together_need_follows_from_their_medians() -> None:
    runs = [named(f"r{number}", worker_cpu=cpu, slots=1000) for number, cpu in enumerate((11.0, 20.0, 50.0))]
    (group,) = comparison.group(runs)
    answer = comparison.how_many(group, 1_000_000, 1.0)
    assert answer is not None
    assert "500/s a worker process (1 core ÷ 2 ms of CPU a message)" in answer["arithmetic"][2]
