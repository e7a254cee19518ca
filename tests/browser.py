"""A real browser for tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

# What a text is that must never become markup.
HOSTILE = "</script><img src=x onerror=\"window.pwned=1\"><b id='evil'>&amp;<!-- "


class Browser:
    """A Chromium without a window, and what it complained of and asked for."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self._log: Callable[[str], list[dict[str, Any]]] = driver.get_log

    def open(self, url: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a page in a window of this size and wait until it is drawn."""
        for kind in ("browser", "performance"):
            self._log(kind)  # what earlier pages said
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(url)
        self.wait(lambda: self.script("return document.getElementById('page').dataset.drawn === 'yes'"))

    def wait(self, condition: Callable[[], Any], seconds: float = 30.0) -> Any:
        """Wait for a condition and return what made it true."""
        return WebDriverWait(self.driver, seconds, poll_frequency=0.1).until(lambda _: condition())

    def script(self, text: str, *arguments: Any) -> Any:
        """Run JavaScript in the page."""
        return self.driver.execute_script(text, *arguments)

    def text(self) -> str:
        """Return what a person reads."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def complaints(self) -> list[str]:
        """Return what stands in the console."""
        return [str(entry["message"]) for entry in self._log("browser")]

    def asked(self) -> set[str]:
        """Return every place that something was asked from."""
        urls = []
        for entry in self._log("performance"):
            message = orjson.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                urls.append(message["params"]["request"]["url"])
        return {
            f"{parts.scheme}://{parts.netloc}"
            for parts in map(urlsplit, urls)
            if parts.scheme not in ("data", "chrome")
        }

    def charts(self) -> dict[str, int]:
        """Return how many points each chart has drawn, by its title."""
        found: dict[str, int] = self.script(
            """
            const found = {};
            for (const figure of document.querySelectorAll("figure")) {
              if (!figure.querySelector("svg")) continue;
              const paths = [...figure.querySelectorAll("svg path")];
              found[figure.querySelector("h3").textContent] =
                paths.reduce((sum, path) => sum + path.getAttribute("d").split(/[ML]/).length - 1, 0);
            }
            return found;
            """
        )
        return found


def started(profile: Path) -> Iterator[Browser]:
    """Yield a browser that keeps what it writes in a folder, and end it."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not chromium or not chromedriver:
        reason = "needs chromium and chromedriver (apt-get install chromium chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Driver(chromedriver))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
