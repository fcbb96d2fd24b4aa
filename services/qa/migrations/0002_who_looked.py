"""Who has seen what would sway an evaluator, who decided a dispute, who owned a plan before, and which answers came too late."""

import sqlalchemy as sa
from alembic import op

from shared.db.types import Document, Id, Moment

revision = "qa_0002"
down_revision = "qa_0001"


def upgrade() -> None:
    op.create_table(
        "looked",
        sa.Column("contact", Id, primary_key=True),
        sa.Column("person", sa.Text, primary_key=True),
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("at", Moment, nullable=False),
    )
    op.add_column("evaluation", sa.Column("decided_by", sa.Text))
    op.add_column("finding", sa.Column("owners", Document))
    op.add_column("survey", sa.Column("late", sa.Boolean, nullable=False, server_default="0"))
    op.execute(sa.text("update survey set late = (1 = 1) where sent_at is not null and answered_at > answer_until"))
