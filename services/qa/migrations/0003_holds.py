"""Who told what of a contact's holds: telephony leg by leg, the transcript, the agents."""

import sqlalchemy as sa
from alembic import op

from shared.db.types import Document

revision = "qa_0003"
down_revision = "qa_0002"


def upgrade() -> None:
    op.add_column("contact", sa.Column("told_holds", Document))
