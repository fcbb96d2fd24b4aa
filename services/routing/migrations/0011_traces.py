"""What a contact's offers and all that follows belong to is kept with it: a restart forgets no trace."""

import sqlalchemy as sa
from alembic import op

revision = "routing_0011"
down_revision = "routing_0010"


def upgrade() -> None:
    op.add_column("contact", sa.Column("trace", sa.Text, nullable=False, server_default=""))
