"""What the three batch actions share: each entry succeeds or fails alone."""

from collections.abc import Callable

from queuebench.local_sqs.errors import SqsError, internal_error
from queuebench.local_sqs.faults import Faults
from queuebench.local_sqs.validation import Json


def each(entries: list[Json], do: Callable[[Json], Json], faults: Faults) -> Json:
    """Do each entry of a batch; what fails is told of that entry alone."""
    successful: list[Json] = []
    failed: list[Json] = []
    for entry in entries:
        try:
            if faults.fails_entry():
                raise internal_error()
            successful.append({"Id": entry["Id"], **do(entry)})
        except SqsError as error:
            failed.append(
                {
                    "Id": entry["Id"],
                    "Code": error.code,
                    "Message": error.message,
                    "SenderFault": error.is_senders_fault,
                }
            )
    reply: Json = {}
    if successful:
        reply["Successful"] = successful
    if failed:
        reply["Failed"] = failed
    return reply
