"""Parts `cases` and `differences` of benchmarks.local_sqs: where others are not as AWS says."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.moto_differences import DIFFERENCES
from benchmarks.sqs_cases import CASES, Asked
from benchmarks.sqs_load import Server
from benchmarks.sqs_others import servers


def wrong_cases(name: str, server: Server) -> set[str]:
    """Return the names of the cases that a server does not get right, and say them."""
    asked = Asked(f"http://127.0.0.1:{server.port}")
    wrong: set[str] = set()
    for case in CASES:
        try:
            case.holds(asked)
        except Exception as error:  # whatever a server does instead is not what the sentence says
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            print(f"  {name:10} not: {case.name} ({text[:90]})", flush=True)
            wrong.add(case.name)
    return wrong


def cases(options: argparse.Namespace) -> None:
    """Count the cases that each server gets right, and list those that one of them does not."""
    wrong: dict[str, set[str]] = {}
    with servers(options.environment) as starts:
        for name, start in starts.items():
            with start() as server:
                wrong[name] = wrong_cases(name, server)
    right = [f"{len(CASES) - len(names)} of {len(CASES)}" for names in wrong.values()]
    print(f"\n| not as the sentence says | {' | '.join(wrong)} |\n|---|{'---|' * len(wrong)}")
    for case in CASES:
        marks = ["×" if case.name in names else "" for names in wrong.values()]
        if any(marks):
            print(f"| {case.name} | {' | '.join(marks)} |")
    print(f"| right | {' | '.join(right)} |")


def differences(options: argparse.Namespace) -> None:
    """Ask moto what the tests ask the local SQS; say where it differs, beside what is known of it."""
    with (
        servers(options.environment) as starts,
        starts["moto"]() as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        failed = failed_tests(f"http://127.0.0.1:{server.port}", Path(folder) / "tests.xml")
    print("\n| test | moto | AWS |\n|---|---|---|")
    for name in sorted(failed | DIFFERENCES.keys()):
        does, word = DIFFERENCES.get(name, ("differs; not in benchmarks/moto_differences.py", "–"))
        if name not in failed:
            does = f"~~{does}~~ as AWS by now"
        print(f"| {name.replace('_', ' ')} | {does} | {word} |")
    print(f"\n{len(failed)} tests of tests/test_local_sqs.py are not as moto's server does.")


def failed_tests(url: str, report: Path) -> set[str]:
    """Run the tests against a server; return the names of those that failed, whatever their parameters."""
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    subprocess.run(
        [*pytest, f"--junit-xml={report}", "tests/test_local_sqs.py"],
        env=os.environ | {"SQS_UNDER_TEST": url},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    return {
        case.get("name", "").removeprefix("test_").partition("[")[0]
        for case in ElementTree.parse(report).iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    }
