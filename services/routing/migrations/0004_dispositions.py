"""Trees of dispositions, in all their versions."""

import sqlalchemy as sa
from alembic import op

from shared.db.types import Document, Moment

revision = "routing_0004"
down_revision = "routing_0003"


def upgrade() -> None:
    op.create_table(
        "disposition_tree",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("document", Document, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
    )
