"""The errors that a caller can do something about. Each travels over RPC and HTTP with its sentence."""

from typing import Any


class AnswerlineError(Exception):
    """An answer other than success, with a sentence that says what to mend."""

    status = 500
    title = "Internal error"

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


class Conflict(AnswerlineError):
    status, title = 409, "Conflict"


class TooLarge(AnswerlineError):
    status, title = 413, "Too large"


class UnsupportedMediaType(AnswerlineError):
    status, title = 415, "Unsupported media type"


class Invalid(AnswerlineError):
    status, title = 422, "Invalid content"


class TooManyRequests(AnswerlineError):
    status, title = 429, "Too many requests"


class Unavailable(AnswerlineError):
    status, title = 503, "Not available at the moment"


class Elsewhere(Exception):
    """What a command is about belongs to another shard of this service: whoever brought the command takes it there."""

    def __init__(self, shard: int) -> None:
        super().__init__(f"belongs to shard {shard}")
        self.shard = shard


BY_NAME = {kind.__name__: kind for kind in AnswerlineError.__subclasses__()}
