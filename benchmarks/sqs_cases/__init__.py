"""Cases of what SQS does, written here, each with the sentence of AWS's API reference that it rests on.

The sentences stand in the service model that botocore carries; tests/test_sqs_cases.py looks them up.
"""

from benchmarks.sqs_cases import dead_letters, fifo, messages, queues, visibility
from benchmarks.sqs_cases.asking import CASES, Asked, Case

__all__ = ["CASES", "Asked", "Case", "dead_letters", "fifo", "messages", "queues", "visibility"]
