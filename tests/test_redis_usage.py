from typing import Any

from queuebench.measuring import redis_usage
from queuebench.measuring.records import ServerRecord, decode, encode


def info(run_id: str = "a", **more: Any) -> dict[str, Any]:
    known = {
        "redis_version": "7.0",
        "run_id": run_id,
        "used_memory": 1000,
        "used_memory_peak": 5000,
        "evicted_keys": 0,
        "used_cpu_user": 10.0,
        "used_cpu_sys": 1.0,
        "aof_enabled": 1,
    }
    return known | more


KEPT = {"appendonly": "yes", "appendfsync": "everysec"}


def test_what_a_server_did_before_the_run_does_not_count() -> None:
    first = redis_usage.follow(None, info(evicted_keys=7, errorstat_OOM={"count": 3}), KEPT, 0.0, False)
    then = redis_usage.follow(
        first, info(evicted_keys=7, errorstat_OOM={"count": 5}, used_cpu_user=12.0), KEPT, 1.0, True
    )
    assert (then.evicted_keys, then.refused_for_memory, then.cpu_seconds) == (0, 2, 2.0)
    assert (then.busy_seconds, then.busy_cpu_seconds) == (1.0, 2.0)


def test_peak_memory_is_the_run_s_even_between_two_looks() -> None:
    first = redis_usage.follow(None, info(), KEPT, 0.0, False)
    assert redis_usage.follow(first, info(used_memory=2000), KEPT, 1.0, True).peak_memory == 2000
    between = redis_usage.follow(first, info(used_memory=2000, used_memory_peak=9000), KEPT, 1.0, True)
    assert between.peak_memory == 9000


def test_totals_go_on_over_a_restart_which_is_counted() -> None:
    first = redis_usage.follow(None, info(), KEPT, 0.0, False)
    then = redis_usage.follow(first, info(used_cpu_user=13.0), KEPT, 1.0, True)
    anew = redis_usage.follow(then, info("b", used_cpu_user=0.5, used_cpu_sys=0.0), KEPT, 2.0, True)
    assert (anew.restarts, anew.cpu_seconds) == (1, 3.5)


def test_a_counter_that_begins_again_is_no_loss_and_what_is_no_number_counts_as_0() -> None:
    first = redis_usage.follow(None, info(), KEPT, 0.0, False)
    then = redis_usage.follow(first, info(evicted_keys=5), KEPT, 1.0, True)
    reset = redis_usage.follow(then, info(evicted_keys=2), KEPT, 2.0, True)  # CONFIG RESETSTAT
    assert reset.evicted_keys == 7
    odd = info(redis_version=7.2, used_memory="much", evicted_keys=-5, used_cpu_user=float("nan"))
    found = redis_usage.follow(None, odd | {"used_memory_peak": 10**400}, {}, 0.0, False)
    assert (found.version, found.used_memory, found.evicted_keys, found.cpu_seconds) == ("7.2", 0, 0, 0.0)
    assert decode(encode(found), ServerRecord, "it") == found


def test_a_clock_that_goes_back_makes_no_time_negative() -> None:
    first = redis_usage.follow(None, info(), KEPT, 100.0, False)
    assert redis_usage.follow(first, info(), KEPT, 50.0, True).busy_seconds == 0.0
