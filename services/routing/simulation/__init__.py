"""Routing proved: recorded calls, or the centre's own log, through the engine that routes live."""
