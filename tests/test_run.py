from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from queuebench.errors import QueueBenchError
from queuebench.figures.findings import NotAccepted
from queuebench.figures.summary import summarise
from queuebench.measuring import run as run_module
from queuebench.measuring.records import (
    FORMAT,
    MOST_INTERVALS,
    MOST_RANGES,
    Clock,
    Count,
    DeadLettered,
    Ending,
    FormatError,
    JoinRequest,
    LeaveRequest,
    ProcessReport,
    Role,
    RunRecord,
    RunTotals,
    Tally,
    decode,
    encode,
)
from queuebench.measuring.run import (
    AWS_EMPTY_SECONDS,
    EMPTY_SECONDS,
    GONE_SECONDS,
    STUCK_SECONDS,
    Run,
    RunFull,
)
from queuebench.settings import load

NOW = 1000.0


SETTINGS: Any = msgspec.to_builtins(load({}).public())


def opened(processes: dict[str, ProcessReport] | None = None, **more: Any) -> Run:
    backlog = {"queue": 0, "celery": 0}
    known = {"settings": SETTINGS, "queue": "REDIS", "label": "Redis", **more}
    return Run.open(
        "run", NOW, known["settings"], {}, known["queue"], known["label"], backlog, processes or {}
    )


def report(process: str, role: str, at: float, **more: Any) -> ProcessReport:
    known: dict[str, Any] = {
        "format": FORMAT,
        "process": process,
        "number": round(at * 10),
        "role": Role(role),
        "host": "host",
        "pid": 1,
        "slots": 0,
        "cores": 2,
        "started_at": NOW - 50,
        "now": at,
        "clock": Clock(),
        "ended": False,
        "startup_cpu_seconds": 0.5,
        "cpu_seconds": 1.0,
        "machine_cpu_seconds": None,
        "max_rss_mib": 10.0,
    }
    return ProcessReport(**(known | more))


def totals(counts: dict[Any, int], accepted: Sequence[tuple[int, int]] = ()) -> dict[str, RunTotals]:
    return {"run": RunTotals(counts=counts, accepted=list(accepted))}


def join(run: Run, process: str, messages: int, at: float) -> int:
    return run.join(JoinRequest(FORMAT, process, 0, messages, SETTINGS), at)


def published(run: Run, messages: int, at: float) -> None:
    first = join(run, "p", messages, at)
    run.leave(LeaveRequest(FORMAT, "p", 0, [(first, first + messages - 1)]))


def arrive(run: Run, *spans: tuple[int, int]) -> None:
    count = sum(last - first + 1 for first, last in spans)
    run.change(tally=Tally(proven=True, distinct=count, arrived=list(spans)))


def test_every_publisher_gets_numbers_of_its_own_however_often_it_asks() -> None:
    run = opened()
    assert join(run, "a", 100, NOW) == 0
    assert join(run, "b", 50, NOW) == 100
    assert join(run, "a", 100, NOW) == 0
    assert join(run, "c", 1, NOW) == 150


def test_it_is_complete_when_everything_that_was_accepted_has_arrived() -> None:
    run = opened()
    published(run, 10, NOW)
    arrive(run, (0, 8))
    assert run.judge(NOW + 1, empty=True) is None
    arrive(run, (0, 9))
    assert run.judge(NOW + 2, empty=True) == "complete"


def test_as_many_arrivals_as_messages_are_not_enough_when_one_of_them_is_another_s() -> None:
    run = opened()
    published(run, 10, NOW)
    arrive(run, (0, 8), (77, 77))
    assert run.looks_complete(NOW + 1)
    assert run.judge(NOW + 1, empty=True) is None
    run.close(NOW + 30, Ending.LOST)
    assert run.record.tally.missing == [(9, 9)]


def test_a_dead_letter_is_not_waited_for() -> None:
    run = opened()
    published(run, 10, NOW)
    arrive(run, (0, 8))
    run.change(dead_letters=DeadLettered(1, [(9, 9)]))
    assert run.judge(NOW + 1, empty=True) == "complete"


def test_it_is_open_while_a_publisher_still_publishes() -> None:
    run = opened()
    join(run, "p", 10, NOW)
    run.report(report("p", "publisher", NOW, runs=totals({"published": 5}, [(0, 4)])), NOW)
    arrive(run, (0, 4))
    assert run.judge(NOW + 1, empty=True) is None


def test_what_is_missing_when_everything_is_empty_and_still_is_lost() -> None:
    run = opened()
    published(run, 10, NOW)
    arrive(run, (0, 8))
    assert run.judge(NOW, empty=True) is None
    assert run.judge(NOW + EMPTY_SECONDS - 0.1, empty=True) is None
    assert run.judge(NOW + EMPTY_SECONDS, empty=False) is None
    assert run.judge(NOW + EMPTY_SECONDS, empty=None) is None
    assert run.judge(NOW + EMPTY_SECONDS, empty=True) == "lost"


def test_anything_that_moves_puts_the_end_off() -> None:
    run = opened()
    published(run, 10, NOW)
    arrive(run, (0, 7))
    run.judge(NOW, empty=True)
    arrive(run, (0, 8))
    run.judge(NOW + 9, empty=True)
    assert run.judge(NOW + 12, empty=True) is None
    assert run.judge(NOW + 9 + EMPTY_SECONDS, empty=True) == "lost"


def test_a_run_in_which_nothing_moves_does_not_go_on_for_ever() -> None:
    run = opened()
    published(run, 10, NOW)
    run.judge(NOW, empty=False)
    assert run.judge(NOW + run.stuck_seconds - 1, empty=False) is None
    assert run.judge(NOW + run.stuck_seconds, empty=False) == "not finished"


def test_a_killed_publisher_s_run_ends_only_when_nothing_is_left() -> None:
    run = opened()
    join(run, "p", 10, NOW)
    run.report(report("p", "publisher", NOW, runs=totals({"published": 5}, [(0, 4)])), NOW)
    arrive(run, (0, 4))
    later = NOW + GONE_SECONDS + 1
    assert run.judge(later, empty=False) is None
    assert run.judge(later, empty=True) == "complete"


def test_what_a_process_cost_before_the_run_is_not_the_run_s() -> None:
    run = opened({"s": report("s", "subscriber", NOW, cpu_seconds=7.0, requests={"ReceiveMessage": 40})})
    run.report(report("s", "subscriber", NOW + 1, cpu_seconds=7.5, requests={"ReceiveMessage": 43}), NOW + 1)
    process = run.record.processes["s"]
    assert process.latest.cpu_seconds - process.baseline.cpu_seconds == pytest.approx(0.5)
    assert process.baseline.requests == {"ReceiveMessage": 40}


@pytest.mark.parametrize(("started_at", "spent"), [(NOW + 1, 0.5), (NOW - 500, 0.0)])
def test_start_up_is_apart_for_a_process_that_comes_in_the_middle(started_at: float, spent: float) -> None:
    run = opened()
    run.report(report("w", "worker", NOW + 3, started_at=started_at, cpu_seconds=1.0), NOW + 3)
    process = run.record.processes["w"]
    assert process.latest.cpu_seconds - process.baseline.cpu_seconds == pytest.approx(spent)


def test_a_share_of_cpu_is_taken_over_the_time_in_which_a_process_worked_all_through() -> None:
    run = opened({"w": report("w", "worker", NOW, cpu_seconds=0.0, machine_cpu_seconds=0.0)})
    # Idle, half a second of work, two full seconds, half a second, idle.
    for second, cpu, pushed in (
        (1, 0.0, 0),
        (2, 0.4, 50),
        (3, 1.3, 150),
        (4, 2.2, 250),
        (5, 2.6, 300),
        (6, 2.6, 300),
    ):
        at = NOW + second
        run.report(
            report(
                "w",
                "worker",
                at,
                cpu_seconds=cpu,
                machine_cpu_seconds=cpu * 2,
                runs=totals({"pushed": pushed} if pushed else {}),
            ),
            at,
        )
    busy = run.record.processes["w"].busy
    assert busy.seconds == pytest.approx(2.0)
    assert busy.cpu_seconds == pytest.approx(1.8)
    assert busy.machine_cpu_seconds == pytest.approx(3.6)


def test_who_went_silent_is_known_at_the_end() -> None:
    run = opened()
    run.report(report("dead", "worker", NOW), NOW)
    run.report(report("stopped", "worker", NOW, ended=True), NOW)
    run.report(report("alive", "worker", NOW + 60), NOW + 60)
    run.close(NOW + 61, Ending.COMPLETE)
    gone = {name: process.gone for name, process in run.record.processes.items()}
    assert gone == {"dead": True, "stopped": False, "alive": False}


def test_an_older_report_that_comes_late_does_not_replace_a_newer_one() -> None:
    run = opened()
    run.report(report("w", "worker", NOW, number=2, runs=totals({"pushed": 20})), NOW)
    run.report(report("w", "worker", NOW, number=1, runs=totals({"pushed": 10})), NOW + 1)
    assert run.count(Count.PUSHED) == 20


def test_the_longest_pause_that_the_settings_make_is_no_end() -> None:
    slow = {**SETTINGS, "PUBLISHER_DELAY": 900.0, "PUSH_SECONDS": 400.0}
    assert opened(settings=slow).stuck_seconds == STUCK_SECONDS + 900.0 + 400.0


def test_a_publisher_may_mean_to_pause_for_longer() -> None:
    run = opened()
    run.join(JoinRequest(FORMAT, "p", 0, 10, SETTINGS, longest_pause=1000.0), NOW)
    assert run.stuck_seconds == STUCK_SECONDS + 1000.0 + 60.0


OPEN_ENDED = 10**11


def join_open_ended(run: Run, process: str, expected: int = 0) -> int:
    return run.join(JoinRequest(FORMAT, process, 0, expected, SETTINGS, most=OPEN_ENDED), NOW)


def test_publishers_that_do_not_know_how_many_come_share_a_run_and_no_number() -> None:
    run = opened()
    assert join_open_ended(run, "a") == 0
    assert join_open_ended(run, "b", expected=500) == OPEN_ENDED
    assert join(run, "c", 10, NOW) == 2 * OPEN_ENDED
    assert run.looks_complete(NOW) is False
    accepted = {
        "a": [(0, 6)],
        "b": [(OPEN_ENDED, OPEN_ENDED + 1)],
        "c": [(2 * OPEN_ENDED, 2 * OPEN_ENDED + 9)],
    }
    for process, messages in (("a", 7), ("b", 2), ("c", None)):
        run.leave(LeaveRequest(FORMAT, process, 0, accepted[process], messages))
    # A number that was given out stays its publisher's.
    assert join(run, "d", 1, NOW) == 2 * OPEN_ENDED + 10
    run.leave(LeaveRequest(FORMAT, "d", 0, [(2 * OPEN_ENDED + 10, 2 * OPEN_ENDED + 10)]))
    arrive(run, *(span for spans in accepted.values() for span in spans), (2 * OPEN_ENDED + 10,) * 2)
    assert run.judge(NOW, empty=None) is Ending.COMPLETE
    summary = summarise(run.record)
    assert (summary.messages, summary.counts.published, summary.counts.lost) == (20, 20, 0)


def test_of_a_killed_publisher_that_did_not_know_what_was_sent_counts_and_the_rest_is_unconfirmed() -> None:
    run = opened()
    join_open_ended(run, "killed")
    published(run, 10, NOW)
    run.report(report("killed", "publisher", NOW, runs=totals({"published": 5}, [(0, 4)])), NOW)
    arrive(run, (0, 7), (OPEN_ENDED, OPEN_ENDED + 9))
    later = NOW + GONE_SECONDS + 1
    assert run.judge(later, empty=True) is Ending.COMPLETE
    run.close(later, Ending.COMPLETE)
    summary = summarise(run.record)
    counts = summary.counts
    assert (summary.messages, counts.published, counts.unconfirmed, counts.lost) == (15, 15, 3, 0)
    assert summary.valid


def test_a_killed_publisher_that_knew_is_missed() -> None:
    run = opened()
    join_open_ended(run, "killed", expected=100)
    run.report(report("killed", "publisher", NOW, runs=totals({"published": 5}, [(0, 4)])), NOW)
    arrive(run, (0, 4))
    run.close(NOW + 60, Ending.COMPLETE)
    assert summarise(run.record).flaws == [NotAccepted(95, 100)]


def test_on_aws_counts_that_read_empty_have_to_do_so_for_longer_than_they_may_lag() -> None:
    run = opened(queue="SQS", label="AWS SQS")
    published(run, 10, NOW)
    arrive(run, (0, 8))
    assert run.judge(NOW, empty=True) is None
    assert run.judge(NOW + 80, empty=False) is None
    assert run.judge(NOW + 81, empty=True) is None
    assert run.judge(NOW + 81 + AWS_EMPTY_SECONDS - 1, empty=True) is None
    assert run.judge(NOW + 81 + AWS_EMPTY_SECONDS, empty=True) is Ending.LOST


def test_on_aws_a_dead_publisher_s_run_is_complete_when_the_counts_cannot_lag_any_more() -> None:
    run = opened(queue="SQS", label="AWS SQS")
    join(run, "p", 10, NOW)
    run.report(report("p", "publisher", NOW, runs=totals({"published": 5}, [(0, 4)])), NOW)
    arrive(run, (0, 4))
    later = NOW + GONE_SECONDS + 1
    assert run.judge(later, empty=True) is None
    assert run.judge(later + AWS_EMPTY_SECONDS, empty=True) is Ending.COMPLETE


def test_a_publisher_that_joins_again_with_other_numbers_is_refused() -> None:
    run = opened()
    join(run, "a", 100, NOW)
    with pytest.raises(QueueBenchError, match="100 messages before, not 200"):
        join(run, "a", 200, NOW)
    assert join(run, "b", 1, NOW) == 100


def test_what_is_accepted_is_what_was_told_last() -> None:
    run = opened()
    join(run, "p", 10, NOW)
    assert len(run.accepted()) == 0
    run.report(report("p", "publisher", NOW + 1, runs=totals({}, [(0, 4)])), NOW + 1)
    assert len(run.accepted()) == 5
    run.leave(LeaveRequest(FORMAT, "p", 0, [(0, 9)]))
    assert len(run.accepted()) == 10


def test_what_arrives_after_the_end_corrects_the_record() -> None:
    run = opened()
    published(run, 10, NOW)
    arrive(run, (0, 8))
    run.close(NOW + 30, Ending.LOST)
    assert run.record.tally.missing == [(9, 9)]
    run.correct(Tally(proven=True, distinct=10, arrived=[(0, 9)]), DeadLettered())
    assert (run.record.ended, run.record.tally.missing) == (Ending.COMPLETE, [])


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 10**15), st.booleans()),
        max_size=30,
    )
)
def test_whatever_processes_report_in_whatever_order_the_record_can_be_kept_and_read(
    said: list[tuple[str, int, int, bool]],
) -> None:
    run = opened()
    for process, number, count, ended in said:
        told = report(process, "worker", NOW + number, number=number, ended=ended)
        run.report(replace(told, runs=totals({Count.PUSHED: count})), NOW + number)
        run.judge(NOW + number, empty=None)
    run.close(NOW + 99, Ending.NOT_FINISHED)
    kept = encode(run.record)
    assert encode(decode(kept, RunRecord, "it")) == kept


@pytest.mark.parametrize(
    "changes",
    [
        {"process": "x" * 5000},
        {"host": "x" * 5000},
        {"requests": {"x" * 5000: 1}},
        {"requests": {f"a-{n}": 1 for n in range(60)}},
        {"runs": {"x" * 5000: {}}},
        {"runs": {f"run-{n}": {} for n in range(70)}},
        {"runs": {"run": {"accepted": [[2 * n, 2 * n] for n in range(MOST_RANGES + 1)]}}},
        {"runs": {"run": {"active": {"push": [[n, n] for n in range(MOST_INTERVALS + 1)]}}}},
        {"runs": {"run": {"latencies": {"push": {"buckets": {str(n): 1 for n in range(-1000, 3001)}}}}}},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_report_of_more_than_anybody_has_to_tell_is_refused_with_one_line(
    changes: dict[str, Any],
) -> None:
    told = msgspec.json.encode(msgspec.to_builtins(report("w", "worker", NOW)) | changes)
    with pytest.raises(FormatError) as refused:
        decode(told, ProcessReport, "the report")
    assert len(str(refused.value)) < 300 and "\n" not in str(refused.value)


def test_all_that_take_part_have_no_more_to_tell_than_a_run_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "MOST_ENTRIES", 50)
    run = opened()
    join(run, "a", 100, NOW)
    scattered = [(2 * n, 2 * n) for n in range(30)]
    for number in (1, 2, 3):
        run.report(report("w", "worker", NOW + number, runs=totals({Count.PUSHED: 1}, scattered)), NOW)
    for _ in range(2):
        with pytest.raises(RunFull, match="takes"):
            run.report(report("x", "worker", NOW, runs=totals({Count.PUSHED: 1}, scattered)), NOW)
    with pytest.raises(RunFull, match="takes"):
        run.leave(LeaveRequest(FORMAT, "a", 0, scattered))
    assert run.publishers_ended(NOW)
    again = Run(run.record)
    again.report(report("w", "worker", NOW + 9, runs=totals({Count.PUSHED: 9}, scattered[:20])), NOW)
    again.report(report("x", "worker", NOW, number=10**6, runs=totals({Count.PUSHED: 1}, scattered)), NOW)
    assert again.count(Count.PUSHED) == 10


def test_one_that_was_silent_when_the_run_was_opened_is_measured_from_its_last_report() -> None:
    before = report("w", "worker", NOW - 20, cpu_seconds=3.0, requests={"a": 5})
    run = opened()
    run.report(report("w", "worker", NOW + 2, cpu_seconds=7.0, requests={"a": 9}), NOW + 2, before)
    (process,) = run.record.processes.values()
    assert (process.baseline.cpu_seconds, process.latest.cpu_seconds) == (3.0, 7.0)
    assert (process.baseline.requests, process.latest.requests) == ({"a": 5}, {"a": 9})
