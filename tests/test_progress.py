from queuebench.report.progress import progress_line, time_left


def test_a_line_for_a_log_says_what_is_where_and_how_long_it_takes() -> None:
    state = {
        "accepted": 900,
        "delivered": 300,
        "messages": 1000,
        "queue": 400,
        "celery": 200,
        "dead_letters": 2,
        "rates": {"published": 50.0, "received": 10.0, "delivered": 10.0},
        "seconds_left": 69.8,
    }
    assert progress_line("local SQS", state) == (
        "delivered 300 of 1,000 (10/s), published 900 (50/s), waiting in local SQS 400, in Celery 200, "
        "dead letters 2, 70 s left"
    )

    assert "published 900 (50/s of 200.0/s asked), " in progress_line("Redis", state | {"asked": 200.0})


def test_what_is_not_known_is_left_out() -> None:
    rates = {"published": 0.0, "received": 0.0, "delivered": 0.0}
    state = {"accepted": 5, "delivered": 0, "messages": 5, "queue": None, "celery": None, "dead_letters": 0}
    line = progress_line("Redis", state | {"rates": rates, "seconds_left": None})
    assert line == "delivered 0 of 5 (0/s), time left not known yet"


def test_the_time_left_is_in_units_that_a_person_would_use() -> None:
    assert [time_left(seconds) for seconds in (None, 3.2, 600, 9000)] == [
        "time left not known yet",
        "3 s left",
        "10 min left",
        "2.5 h left",
    ]
