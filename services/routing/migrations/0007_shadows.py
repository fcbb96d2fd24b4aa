"""Policies that run in the shadow of others."""

import sqlalchemy as sa
from alembic import op

from shared.db.types import Document, Moment

revision = "routing_0007"
down_revision = "routing_0006"


def upgrade() -> None:
    op.create_table(
        "shadow",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("since", Moment, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("compared_at", Moment),
        sa.Column("compared", Document),
    )
