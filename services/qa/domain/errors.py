"""What the domain refuses, and why, in a sentence that says what to mend."""


class Refused(Exception):
    """What was asked for does not go."""


class Invalid(Refused):
    """What was told is not as it must be."""


class Conflict(Refused):
    """It does not go now."""


class Denied(Refused):
    """It is for somebody else to do."""
