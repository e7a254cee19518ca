"""The charts' script: Vega-Lite, which an installed package carries, and what our charts are made of."""

from __future__ import annotations

import importlib.util
from functools import cache
from hashlib import sha256
from pathlib import Path

from queuebench.errors import QueueBenchError

HERE = Path(__file__).parent
COLOURS = 6  # --c0 to --c5 of page.css
PACKAGE = "js_lib_vega_embed"
FILE = "static/js_lib_vega_embed/vega-embed-full.js"


def library_path() -> Path:
    """Return where the charting library's script is installed; imports nothing.

    Raises:
        QueueBenchError: it is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    for folder in (found and found.submodule_search_locations) or ():
        if (path := Path(folder) / FILE).is_file():
            return path
    raise QueueBenchError("the charts' script is not installed: pip install django-js-lib-vega-embed")


@cache
def library() -> tuple[str, str]:
    """Return the charting library's script, fit to stand in a page, and a word that changes with it."""
    text = library_path().read_text(encoding="utf-8")
    # Within <script>, these would end or change it.
    text = text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    return text, sha256(text.encode()).hexdigest()[:16]


def script() -> str:
    """Return our own part: what each chart shows."""
    return (HERE / "charts.js").read_text(encoding="utf-8")
