from typing import Any

import pytest

from queuebench.measuring.run import EMPTY_SECONDS, GONE_SECONDS, STUCK_SECONDS, Run

NOW = 1000.0


def opened(processes: dict[str, Any] | None = None) -> Run:
    backlog = {"queue": 0, "celery": 0}
    return Run.open("run", NOW, {}, {}, "REDIS", "Redis", backlog, processes or {})


def report(process: str, role: str, at: float, **more: Any) -> dict[str, Any]:
    known = {
        "process": process,
        "role": role,
        "host": "host",
        "slots": 0,
        "cores": 2,
        "started_at": NOW - 50,
        "now": at,
        "clock": {"offset_seconds": 0.0, "within_seconds": -1.0},
        "ended": False,
        "startup_cpu_seconds": 0.5,
        "cpu_seconds": 1.0,
        "machine_cpu_seconds": None,
        "max_rss_mib": 10.0,
        "requests": {},
        "unassigned": {},
        "runs": {},
    }
    return known | more


def totals(counts: dict[str, int], accepted: list[list[int]] | None = None) -> dict[str, Any]:
    return {"run": {"counts": counts, "latencies": {}, "active": {}, "accepted": accepted or []}}


def published(run: Run, messages: int, at: float) -> None:
    first = run.join("p", 0, messages, at)
    run.leave("p", 0, [[first, first + messages - 1]])


def arrive(run: Run, *spans: list[int]) -> None:
    count = sum(last - first + 1 for first, last in spans)
    run.record["tally"] |= {"proven": True, "distinct": count, "arrived": list(spans)}


def test_every_publisher_gets_numbers_of_its_own_however_often_it_asks() -> None:
    run = opened()
    assert run.join("a", 0, 100, NOW) == 0
    assert run.join("b", 0, 50, NOW) == 100
    assert run.join("a", 0, 100, NOW) == 0
    assert run.join("c", 0, 1, NOW) == 150


def test_it_is_complete_when_everything_that_was_accepted_has_arrived() -> None:
    run = opened()
    published(run, 10, NOW)
    arrive(run, [0, 8])
    assert run.judge(NOW + 1, empty=True) is None
    arrive(run, [0, 9])
    assert run.judge(NOW + 2, empty=True) == "complete"


def test_as_many_arrivals_as_messages_are_not_enough_when_one_of_them_is_another_s() -> None:
    run = opened()
    published(run, 10, NOW)
    arrive(run, [0, 8], [77, 77])
    assert run.looks_complete(NOW + 1)
    assert run.judge(NOW + 1, empty=True) is None
    run.close(NOW + 30, "lost")
    assert run.record["tally"]["missing"] == [[9, 9]]


def test_a_dead_letter_is_not_waited_for() -> None:
    run = opened()
    published(run, 10, NOW)
    arrive(run, [0, 8])
    run.record["dead_letters"] = {"count": 1, "numbers": [[9, 9]]}
    assert run.judge(NOW + 1, empty=True) == "complete"


def test_it_is_open_while_a_publisher_still_publishes() -> None:
    run = opened()
    run.join("p", 0, 10, NOW)
    run.report(report("p", "publisher", NOW, runs=totals({"published": 5}, [[0, 4]])), NOW)
    arrive(run, [0, 4])
    assert run.judge(NOW + 1, empty=True) is None


def test_what_is_missing_when_everything_is_empty_and_still_is_lost() -> None:
    run = opened()
    published(run, 10, NOW)
    arrive(run, [0, 8])
    assert run.judge(NOW, empty=True) is None
    assert run.judge(NOW + EMPTY_SECONDS - 0.1, empty=True) is None
    assert run.judge(NOW + EMPTY_SECONDS, empty=False) is None
    assert run.judge(NOW + EMPTY_SECONDS, empty=None) is None
    assert run.judge(NOW + EMPTY_SECONDS, empty=True) == "lost"


def test_anything_that_moves_puts_the_end_off() -> None:
    run = opened()
    published(run, 10, NOW)
    arrive(run, [0, 7])
    run.judge(NOW, empty=True)
    arrive(run, [0, 8])
    run.judge(NOW + 9, empty=True)
    assert run.judge(NOW + 12, empty=True) is None
    assert run.judge(NOW + 9 + EMPTY_SECONDS, empty=True) == "lost"


def test_a_run_in_which_nothing_moves_does_not_go_on_for_ever() -> None:
    run = opened()
    published(run, 10, NOW)
    run.judge(NOW, empty=False)
    assert run.judge(NOW + STUCK_SECONDS - 1, empty=False) is None
    assert run.judge(NOW + STUCK_SECONDS, empty=False) == "not finished"


def test_a_killed_publisher_s_run_ends_only_when_nothing_is_left() -> None:
    run = opened()
    run.join("p", 0, 10, NOW)
    run.report(report("p", "publisher", NOW, runs=totals({"published": 5}, [[0, 4]])), NOW)
    arrive(run, [0, 4])
    later = NOW + GONE_SECONDS + 1
    assert run.judge(later, empty=False) is None
    assert run.judge(later, empty=True) == "complete"


def test_what_a_process_cost_before_the_run_is_not_the_run_s() -> None:
    run = opened({"s": report("s", "subscriber", NOW, cpu_seconds=7.0, requests={"ReceiveMessage": 40})})
    run.report(report("s", "subscriber", NOW + 1, cpu_seconds=7.5, requests={"ReceiveMessage": 43}), NOW + 1)
    process = run.record["processes"]["s"]
    assert process["latest"]["cpu_seconds"] - process["baseline"]["cpu_seconds"] == pytest.approx(0.5)
    assert process["baseline"]["requests"] == {"ReceiveMessage": 40}


@pytest.mark.parametrize(("started_at", "spent"), [(NOW + 1, 0.5), (NOW - 500, 0.0)])
def test_start_up_is_apart_for_a_process_that_comes_in_the_middle(started_at: float, spent: float) -> None:
    run = opened()
    run.report(report("w", "worker", NOW + 3, started_at=started_at, cpu_seconds=1.0), NOW + 3)
    process = run.record["processes"]["w"]
    assert process["latest"]["cpu_seconds"] - process["baseline"]["cpu_seconds"] == pytest.approx(spent)


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
    busy = run.record["processes"]["w"]["busy"]
    assert busy["seconds"] == pytest.approx(2.0)
    assert busy["cpu_seconds"] == pytest.approx(1.8)
    assert busy["machine_cpu_seconds"] == pytest.approx(3.6)


def test_who_went_silent_is_known_at_the_end() -> None:
    run = opened()
    run.report(report("dead", "worker", NOW), NOW)
    run.report(report("stopped", "worker", NOW, ended=True), NOW)
    run.report(report("alive", "worker", NOW + 60), NOW + 60)
    run.close(NOW + 61, "complete")
    gone = {name: process["gone"] for name, process in run.record["processes"].items()}
    assert gone == {"dead": True, "stopped": False, "alive": False}
