"""Which word told a contact's figures, so that the newest right one holds in whatever order they come."""

import sqlalchemy as sa
from alembic import op

from shared.db.types import Document, Serial

revision = "qa_0004"
down_revision = "qa_0003"


def upgrade() -> None:
    op.add_column("contact", sa.Column("told_by", Document))
    op.add_column("handover", sa.Column("passed_on", sa.Boolean, nullable=False, server_default="1"))
    op.add_column("handover", sa.Column("word", Serial, nullable=False, server_default="0"))
