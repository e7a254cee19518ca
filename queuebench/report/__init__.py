"""What a run's record says, for people: the comparison in a terminal, and the page.

One renderer makes both the live page and the report: `page.html`, with the figures inside the file
(a report) or asked from the monitor once a second (live).
"""

from queuebench.report.cli import main
from queuebench.report.page import html, page_data, write_report
from queuebench.report.terminal import show

__all__ = ["html", "main", "page_data", "show", "write_report"]
