"""Who has left: nobody is offered to them any more."""

import sqlalchemy as sa
from alembic import op

from shared.db.types import Serial

revision = "routing_0006"
down_revision = "routing_0005"


def upgrade() -> None:
    op.create_table(
        "person",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("sequence", Serial, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("person")
