"""Calendars and closures."""

import sqlalchemy as sa
from alembic import op

from shared.db.types import Document, Id, Moment

revision = "routing_0003"
down_revision = "routing_0002"


def upgrade() -> None:
    op.create_table(
        "calendar",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("document", Document, nullable=False),
        sa.Column("changed_at", Moment, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
    )
    op.create_table(
        "closure",
        sa.Column("id", Id, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("queues", Document, nullable=False),
        sa.Column("closed", sa.Boolean, nullable=False),
        sa.Column("message", Document, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False, quote=True),
        sa.Column("since", Moment, nullable=False),
        sa.Column("until", Moment),
        sa.Column("ended_at", Moment),
        sa.Column("ended_by", sa.Text),
    )
    op.create_index("closure_since", "closure", ["since"])
    unended = sa.text("ended_at is null")
    op.create_index("closure_open", "closure", ["id"], postgresql_where=unended, sqlite_where=unended)
