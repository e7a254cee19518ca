"""Curves and heat maps over settings, as a person and as a screen reader has them."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from queuebench.errors import QueueBenchError
from queuebench.report import charts
from queuebench.report.diagrams import (
    Curves,
    HeatMap,
    Line,
    Measured,
    Square,
    curves,
    document,
    heat_map,
    in_order,
)
from tests import ROOT
from tests.browser import HOSTILE, Browser

NOT_VALID = "not valid: the endpoint answered late"
RATES = Curves(
    "Push rate",
    "SUBSCRIBERS",
    [
        Line("Redis", [Measured(n, [900.0 * int(n), 950.0 * int(n), 990.0 * int(n)]) for n in "8124"], 0),
        Line(HOSTILE, [Measured("1", [300.0]), Measured("2", [], NOT_VALID), Measured("8", [700.0])], 1),
    ],
    "/s",
)
BY_NAME = Curves(
    "CPU", "variant", [Line("a", [Measured("fifo", [3.0, 5.0]), Measured(HOSTILE, [4.0])])], "us"
)
HEAT = HeatMap(
    "End to end p99",
    "SUBSCRIBERS",
    "SQS_QUEUES",
    [
        Square("12", "4", [], HOSTILE),
        *(
            Square(str(x), str(y), [40.0 * y / x, 50.0 * y / x])
            for x, y in product(range(1, 13), (1, 2, 4))
            if (x, y) != (12, 4)
        ),
    ],
    "ms",
)
NOTHING = Curves("Nothing", "WORKERS", [Line("Redis", [Measured("2", [], "failed: a worker ended")])])


def cells(fragment: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", fragment)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_the_table_of_curves_has_median_spread_and_why_there_is_no_figure() -> None:
    table = cells(curves(RATES))
    assert [row[0] for row in table] == ["SUBSCRIBERS", "1", "2", "4", "8"]
    assert [row[1] for row in table[:3]] == ["Redis", "950/s (900/s … 990/s)", "1,900/s (1,800/s … 1,980/s)"]
    assert [row[2] for row in table[1:]] == ["300/s", NOT_VALID, "–", "700/s"]


def test_the_table_of_a_heat_map_has_a_row_and_a_column_a_value() -> None:
    table = cells(heat_map(HEAT))
    assert table[0][1:] == [str(x) for x in range(1, 13)]
    assert [row[0] for row in table[1:]] == ["1", "2", "4"]
    assert table[2][2] == "45 ms (40 ms … 50 ms)"
    assert "<img" not in heat_map(HEAT)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["8", "1", "10", "1"], ["1", "8", "10"]),
        (["0.5", "1e-3"], ["1e-3", "0.5"]),
        (["standard", "2", "1"], ["standard", "2", "1"]),
        (["nan", "1"], ["nan", "1"]),
        (["inf", "1"], ["inf", "1"]),
        ([], []),
    ],
)
def test_values_of_a_setting_are_in_order(values: list[str], expected: list[str]) -> None:
    assert in_order(values) == expected


@pytest.mark.parametrize(
    ("ats", "values", "scale", "logarithmic"),
    [
        (["1", "2", "4", "8"], [1.0, 100.0], "log", True),
        (["1", "2", "3"], [1.0, 2.0], "linear", False),
        (["0", "100"], [0.0, 100.0], "linear", False),
        (["-1", "8"], [-1.0, 100.0], "linear", False),
        (["fifo", "8"], [5.0, 5.0], "ordinal", False),
    ],
)
def test_a_scale_is_logarithmic_where_it_fits(
    ats: list[str], values: list[float], scale: str, logarithmic: bool
) -> None:
    fragment = curves(Curves("t", "S", [Line("a", [Measured(at, values) for at in ats])]))
    assert f'"scale":"{scale}"' in fragment
    assert f'"logarithmic":{str(logarithmic).lower()}' in fragment


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (390, True)])
def test_figures_over_settings_are_drawn_at_every_width(
    browser: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    page = tmp_path / "sweep.html"
    fragments = [curves(RATES), curves(BY_NAME), heat_map(HEAT), curves(NOTHING)]
    page.write_text(document(f"A sweep {HOSTILE}", fragments), encoding="utf-8")
    assert page.stat().st_size < 1_500_000
    browser.open(page.as_uri(), width=width, height=844, dark=dark)
    assert browser.complaints() == []
    assert browser.asked() == {"file://"}
    assert browser.script("return document.scrollingElement.scrollWidth") <= width
    assert browser.script("return window.pwned") is None
    assert browser.driver.find_elements(By.CSS_SELECTOR, "main img, #evil") == []
    drawn = browser.driver.find_elements(By.CSS_SELECTOR, "figure svg[role=img]")
    assert len(drawn) == 3
    assert all(svg.size["width"] > 0.8 * (min(width, 1180) - 80) for svg in drawn)
    assert "950/s (900/s … 990/s) at 1" in str(drawn[0].get_attribute("aria-label"))
    # A band a queue, each with its line; as many squares as there are figures, one of them without.
    count = "return arguments[0].querySelectorAll(arguments[1]).length"
    assert browser.script(count, drawn[0], ".mark-area.role-mark path[d*=L]") >= 1
    assert browser.script(count, drawn[2], ".mark-rect.role-mark path") == 36
    assert "No run counts: the table says why." in browser.text()
    square = drawn[2].find_elements(By.CSS_SELECTOR, ".mark-rect.role-mark path")[-1]
    browser.script("arguments[0].scrollIntoView({block: 'center'})", square)
    ActionChains(browser.driver).move_to_element(square).perform()
    tip = browser.wait(lambda: browser.driver.find_elements(By.CSS_SELECTOR, "#vg-tooltip-element.visible"))
    assert "median" in tip[0].text


# ---- the library ----


def test_the_charting_library_is_found_without_importing_it() -> None:
    code = "import sys, queuebench.monitor.http; from queuebench.report import charts;"
    code += "print(charts.library_path());"
    code += "print([name for name in sys.modules if name.startswith((charts.PACKAGE, 'django'))])"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    path, imported = ended.stdout.splitlines()
    assert Path(path).stat().st_size < 1_000_000
    assert imported == "[]"


def test_a_charting_library_that_is_not_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "PACKAGE", "no_such_package")
    with pytest.raises(QueueBenchError, match="pip install django-js-lib-vega-embed"):
        charts.library_path()
