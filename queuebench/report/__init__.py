"""What a run's figures say, for people: words, the comparison in a terminal, and the page.

One renderer makes both the live page and the report: `page.html`, with the figures inside the file
(a report) or asked from the monitor once a second (live). `words` and `table` are light; `terminal`
needs rich.
"""
