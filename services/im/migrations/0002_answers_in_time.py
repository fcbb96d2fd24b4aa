"""What the customer said apart from what the agent noted, and until when it counts."""

import sqlalchemy as sa
from alembic import op

from shared.db.types import Moment

revision = "im_0002"
down_revision = "im_0001"


def upgrade() -> None:
    op.add_column("card", sa.Column("customer_resolved", sa.Boolean))
    op.add_column("card", sa.Column("answered_at", Moment))
    op.add_column("card", sa.Column("answer_until", Moment))
