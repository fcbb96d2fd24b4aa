"""The errors that a caller can do something about. Each travels over RPC and HTTP with its sentence."""

from typing import Any


class AnswerlineError(Exception):
    """An answer other than success, with a sentence that says what to mend."""

    status = 503
    title = "Not available at the moment"

    def __init__(self, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.more = more


class Malformed(AnswerlineError):
    status, title = 400, "Malformed request"


class Unauthenticated(AnswerlineError):
    status, title = 401, "No valid key"


class Forbidden(AnswerlineError):
    status, title = 403, "Not allowed"


class NotFound(AnswerlineError):
    status, title = 404, "Not found"


class MethodNotAllowed(AnswerlineError):
    status, title = 405, "Method not allowed"


class TooSlow(AnswerlineError):
    status, title = 408, "Too slow"


class Conflict(AnswerlineError):
    status, title = 409, "Conflict"


class Gone(AnswerlineError):
    status, title = 410, "Gone"


class TooLarge(AnswerlineError):
    status, title = 413, "Too large"


class AddressTooLong(AnswerlineError):
    status, title = 414, "Address too long"


class UnsupportedMediaType(AnswerlineError):
    status, title = 415, "Unsupported media type"


class RangeNotSatisfiable(AnswerlineError):
    status, title = 416, "Range not satisfiable"


class Invalid(AnswerlineError):
    status, title = 422, "Invalid content"


class TooManyRequests(AnswerlineError):
    status, title = 429, "Too many requests"


class HeaderTooLarge(AnswerlineError):
    status, title = 431, "Header too large"


class Unavailable(AnswerlineError):
    status, title = 503, "Not available at the moment"


class Elsewhere(Exception):
    """What a command is about belongs to another shard of this service: whoever brought the command takes it there."""

    def __init__(self, shard: int) -> None:
        super().__init__(f"belongs to shard {shard}")
        self.shard = shard


BY_NAME = {kind.__name__: kind for kind in AnswerlineError.__subclasses__()}
