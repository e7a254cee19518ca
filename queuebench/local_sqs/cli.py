"""`python -m queuebench sqs`: options, start and end."""

import argparse
import asyncio
import gc
import math
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from queuebench.errors import SettingsError
from queuebench.local_sqs.api import Api
from queuebench.local_sqs.engine import Engine
from queuebench.local_sqs.faults import DEFAULT_MEDIAN_MS, DEFAULT_P99_MS, Faults, Latency
from queuebench.local_sqs.ids import IdSource
from queuebench.local_sqs.limits import NO_LIMITS, Limits
from queuebench.local_sqs.log import Log
from queuebench.local_sqs.replay import Replay, snapshot, snapshot_size
from queuebench.local_sqs.server import Application
from queuebench.local_sqs.serving import MonotonicWallClock, listen, main_loop_factory, serve

DEFAULT_PORT = 9324


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m queuebench sqs",
        description="A local SQS that behaves, limits and bills like AWS. Any credentials are accepted. "
        "GET /bill tells what AWS would charge, GET and PUT /faults show and set what goes wrong.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 picks a free one (%(default)s)")
    parser.add_argument(
        "--latency",
        type=float,
        metavar="MS",
        default=DEFAULT_MEDIAN_MS,
        help="median time of a request; 0 turns latency off (%(default)s)",
    )
    parser.add_argument(
        "--latency-p99",
        type=float,
        metavar="MS",
        help=f"its 99th percentile (median x {DEFAULT_P99_MS / DEFAULT_MEDIAN_MS:g})",
    )
    parser.add_argument(
        "--no-quotas",
        action="store_true",
        help="no limit on calls a second, messages in flight and FIFO groups searched, no 60-second waits",
    )
    parser.add_argument(
        "--fifo-quota",
        type=float,
        metavar="CALLS",
        help=f"calls a second per action and FIFO queue ({Limits().fifo_calls_per_second})",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="keep a log here that survives a kill")
    parser.add_argument("--region", default="us-east-1", help="region that ARNs name (%(default)s)")
    faults = parser.add_argument_group("faults on request", "each a share of 0 to 1, off by default")
    faults.add_argument("--duplicate-deliveries", type=float, metavar="SHARE", default=0.0)
    faults.add_argument("--failed-entries", type=float, metavar="SHARE", default=0.0, help="in batches")
    faults.add_argument("--errors", type=float, metavar="SHARE", default=0.0, help="half of them done")
    faults.add_argument("--throttling", type=float, metavar="SHARE", default=0.0)
    return parser


def _limits(options: argparse.Namespace) -> Limits:
    limits = NO_LIMITS if options.no_quotas else Limits()
    if options.fifo_quota is None:
        return limits
    if not 0 < options.fifo_quota < math.inf:
        raise SettingsError("--fifo-quota must be above 0 calls a second")
    return replace(limits, fifo_calls_per_second=options.fifo_quota)


def _latency(options: argparse.Namespace) -> Latency:
    p99 = options.latency_p99
    if p99 is None:
        p99 = options.latency * DEFAULT_P99_MS / DEFAULT_MEDIAN_MS
    return Latency(options.latency, p99)


def main(argv: list[str]) -> int:
    """Run the local SQS until it is told to stop; return the exit code.

    Raises:
        SettingsError: an option, the address or the log cannot be used.
    """
    options = _parser().parse_args(argv)
    if not 0 <= options.port <= 65_535:
        raise SettingsError("--port must be 0 to 65535")
    limits, latency = _limits(options), _latency(options)
    faults = Faults(options.duplicate_deliveries, options.failed_entries, options.errors, options.throttling)
    with closing(listen(options.host, options.port)) as bound:
        new_id, clock = IdSource(), MonotonicWallClock()
        engine = Engine(options.region, limits, new_id, keep_events=options.data is not None)
        # what waits lives long: looking at all of it again and again would cost more than it frees
        gc.set_threshold(50_000, 50, 100)
        log = _open_log(options.data, engine, clock) if options.data else None
        gc.freeze()
        api = Api(engine, faults, new_id)

        def make_application(on_fatal: Callable[[str], None]) -> Application:
            return Application(
                api,
                clock=clock,
                latency=latency,
                log=log,
                new_id=new_id,
                on_fatal=on_fatal,
                options=lambda: ", ".join(_traits(latency, limits, faults)),
            )

        host, port = bound.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        kept = f"log in {options.data}" if options.data else "nothing kept on disk"
        traits = ", ".join([*_traits(latency, limits, faults), kept])

        def say_started() -> None:
            print(f"local SQS listens on http://{shown}:{port} ({traits})", flush=True)

        with asyncio.Runner(loop_factory=main_loop_factory()) as runner:
            application, failure = runner.run(serve(make_application, bound, say_started))
    if log is not None:
        log.close()
    if failure is not None:
        print(f"local SQS: stopped: {failure}", file=sys.stderr)
        return 1
    bill = application.bill.as_json()
    requests = sum(bill["billed_requests"].values())
    print(f"local SQS: stopped; AWS would have billed {requests} requests, ${bill['usd']:.6f}", flush=True)
    return 0


def _open_log(directory: Path, engine: Engine, clock: Callable[[], float]) -> Log:
    log, replay = Log(directory), Replay(engine)
    try:
        for event in log.read():
            replay.take(event)
    except (KeyError, IndexError, TypeError, ValueError, AssertionError):
        raise SettingsError(f"the log in {directory} is not one of this local SQS: move it away") from None
    replay.finish(clock())
    if log.is_worth_compacting(snapshot_size(engine)):
        try:
            log.compact(snapshot(engine))
        except OSError as error:
            raise SettingsError(f"cannot write the log in {directory}: {error.strerror}") from None
    return log


def _traits(latency: Latency, limits: Limits, faults: Faults) -> list[str]:
    traits = ["latency off"]
    if latency.median_ms:
        traits = [f"latency {latency.median_ms:g} ms median, {latency.p99_ms:g} ms p99"]
    quota = limits.fifo_calls_per_second
    traits.append("no FIFO quota" if math.isinf(quota) else f"FIFO quota {quota:g} calls/s")
    traits += [f"{name.replace('_', ' ')} {share:g}" for name, share in faults.shares().items() if share]
    return traits
