"""The errors that SQS answers with: AWS's shapes, codes and words.

Shapes and codes are those of the service model that boto3 ships (its `awsQueryError` codes are what
clients see as `Error.Code`); where the model has no words, they are AWS's own as recorded by users.
"""

from queuebench.errors import QueueBenchError

_CORAL = "com.amazon.coral.service#"
_SQS = "com.amazonaws.sqs#"
_SIMPLE_QUEUE_SERVICE = "AWS.SimpleQueueService."

# shape → code; a shape that is not here has itself as its code
_CODES = {
    "QueueDoesNotExist": _SIMPLE_QUEUE_SERVICE + "NonExistentQueue",
    "QueueNameExists": "QueueAlreadyExists",
    "InvalidParameterValueException": "InvalidParameterValue",
    "MissingRequiredParameterException": "MissingParameter",
} | {
    shape: _SIMPLE_QUEUE_SERVICE + shape
    for shape in (
        "BatchEntryIdsNotDistinct",
        "BatchRequestTooLong",
        "EmptyBatchRequest",
        "InvalidBatchEntryId",
        "MessageNotInflight",
        "PurgeQueueInProgress",
        "QueueDeletedRecently",
        "TooManyEntriesInBatchRequest",
        "UnsupportedOperation",
    )
}
_CORAL_SHAPES = {
    "InvalidParameterValueException",
    "MissingRequiredParameterException",
    "SerializationException",
    "UnknownOperationException",
    "RequestEntityTooLargeException",
    "InternalFailure",
}


# shape → HTTP status, where it is not 400: the error traits of botocore 1.31.0's service model
_STATUSES = {
    "InvalidAddress": 404,
    "InvalidSecurity": 403,
    "OverLimit": 403,
    "PurgeQueueInProgress": 403,
    "RequestThrottled": 403,
    "ResourceNotFoundException": 404,
}


class SqsError(QueueBenchError):
    """An error that a client of SQS is to see."""

    def __init__(self, shape: str, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.shape = shape
        self.message = message
        self.status = _STATUSES.get(shape, 400) if status is None else status

    @property
    def code(self) -> str:
        """Return what boto3 shows as `Error.Code`."""
        return _CODES.get(self.shape, self.shape)

    @property
    def type(self) -> str:
        """Return the `__type` of the JSON protocol."""
        return (_CORAL if self.shape in _CORAL_SHAPES else _SQS) + self.shape

    @property
    def is_senders_fault(self) -> bool:
        """Tell whether the same request would fail again."""
        return self.status < 500


def missing_parameter(name: str) -> SqsError:
    """Make the error for a required parameter that is absent or empty."""
    return SqsError("MissingRequiredParameterException", f"The request must contain the parameter {name}.")


def invalid_parameter(message: str) -> SqsError:
    """Make an InvalidParameterValue error in the words given."""
    return SqsError("InvalidParameterValueException", message)


def invalid_value(value: object, parameter: str, reason: str) -> SqsError:
    """Make the error for a parameter outside its range."""
    return invalid_parameter(f"Value {value} for parameter {parameter} is invalid. Reason: {reason}")


def invalid_attribute(name: str, reason: str = "") -> SqsError:
    """Make the error for a queue attribute whose value cannot be used."""
    text = f"Invalid value for the parameter {name}." + (f" Reason: {reason}" if reason else "")
    return SqsError("InvalidAttributeValue", text)


def unknown_attribute(name: str) -> SqsError:
    """Make the error for a queue attribute that does not exist, or not on this type of queue."""
    return SqsError("InvalidAttributeName", f"Unknown Attribute {name}.")


def queue_does_not_exist() -> SqsError:
    """Make the error for a queue that is not there."""
    return SqsError("QueueDoesNotExist", "The specified queue does not exist.")


def invalid_receipt_handle(handle: str) -> SqsError:
    """Make the error for text that is no receipt handle of this queue."""
    return SqsError(
        "ReceiptHandleIsInvalid", f'The input receipt handle "{handle}" is not a valid receipt handle.'
    )


def resource_not_found(message: str) -> SqsError:
    """Make the error of the message move tasks."""
    return SqsError("ResourceNotFoundException", message)


def throttled() -> SqsError:
    """Make the throttling error, which boto3 retries by its code."""
    return SqsError("RequestThrottled", "Request is throttled.")


def serialization(message: str) -> SqsError:
    """Make the error for a request that is not the JSON asked for."""
    return SqsError("SerializationException", message)


def internal_error() -> SqsError:
    """Make the error for what is the server's fault."""
    return SqsError(
        "InternalFailure",
        "The request processing has failed because of an unknown error, exception or failure.",
        status=500,
    )
