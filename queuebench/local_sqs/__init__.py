"""A local SQS that behaves, limits and bills like AWS.

`message`, `queue`, `standard`, `fifo` and `engine` are what SQS does, without I/O; `api` is its actions;
`server` is HTTP. Beside them: `limits`, `faults` (and latency), `bill`, and `log`, which survives a kill.
"""

from queuebench.local_sqs.cli import main

__all__ = ["main"]
