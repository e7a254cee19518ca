"""One thing done to the running pipeline, and the promise that nothing is lost.

`scene` runs the pipeline and measures, `kinds` has what is done to it, `python -m tests.faults` does
many of them at random moments and keeps the table.
"""
