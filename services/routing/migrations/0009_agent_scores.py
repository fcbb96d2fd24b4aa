"""How well agents do, for policies that prefer by it."""

import sqlalchemy as sa
from alembic import op

from shared.db.types import Moment, Serial

revision = "routing_0009"
down_revision = "routing_0008"


def upgrade() -> None:
    op.create_table(
        "agent_score",
        sa.Column("agent", sa.Text, primary_key=True),
        sa.Column("scorecard", sa.Text, primary_key=True),
        sa.Column("best", sa.Float, nullable=False),
        sa.Column("until", Moment, nullable=False),
        sa.Column("sequence", Serial, nullable=False),
    )
