"""Why a command was refused. The message is a sentence that can be shown to whoever sent it."""


class Refused(Exception):
    """A refused command; nothing has changed."""


class NotFound(Refused):
    """The command names something that does not exist."""


class Conflict(Refused):
    """The command makes sense, but not in the present state."""


class Invalid(Refused):
    """The command makes no sense in any state."""
