"""Why a command was refused. The message is a sentence that can be shown to whoever sent it."""


class RoutingError(Exception):
    """A refused command; the desk is as it was before."""


class NotFound(RoutingError):
    """The command names something that does not exist."""


class Conflict(RoutingError):
    """The command makes sense, but not in the present state."""


class Invalid(RoutingError):
    """The command makes no sense in any state."""
