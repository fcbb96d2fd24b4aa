"""How often and how long the customer was on hold in a leg."""

import sqlalchemy as sa
from alembic import op

from shared.db.types import Moment

revision = "routing_0010"
down_revision = "routing_0009"


def upgrade() -> None:
    op.add_column("leg", sa.Column("holds", sa.Integer))
    op.add_column("leg", sa.Column("on_hold_seconds", Moment))
