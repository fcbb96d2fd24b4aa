"""Why a command was refused. The message is a sentence that can be shown to whoever sent it."""


class RoutingError(Exception):
    """A refused command; the desk is as it was before."""


class NotFound(RoutingError):  # noqa: N818 - named for what the sender reads
    """The command names something that does not exist."""


class Conflict(RoutingError):  # noqa: N818 - named for what the sender reads
    """The command makes sense, but not in the present state."""


class Invalid(RoutingError):  # noqa: N818 - named for what the sender reads
    """The command makes no sense in any state."""
