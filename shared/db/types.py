"""Column types that mean the same in PostgreSQL and SQLite."""

from sqlalchemy import JSON, BigInteger, Float, Integer, Text
from sqlalchemy.dialects import postgresql

Id = Text().with_variant(postgresql.UUID(as_uuid=False), "postgresql")
Document = JSON(none_as_null=True).with_variant(postgresql.JSON(none_as_null=True), "postgresql")
Serial = Integer().with_variant(BigInteger(), "postgresql")
Moment = Float(53)
"""Epoch seconds, UTC."""
