"""A permit may be for some queues alone."""

import sqlalchemy as sa
from alembic import op

from shared.db.types import Document

revision = "routing_0008"
down_revision = "routing_0007"


def upgrade() -> None:
    op.add_column("training_word", sa.Column("queues", Document))
