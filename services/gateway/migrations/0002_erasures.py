"""Customers are forgotten: what is still to be looked for, and whose a contact is."""

import sqlalchemy as sa
from alembic import op

from shared.db.types import Document, Id, Moment, Serial

revision = "gateway_0002"
down_revision = "gateway_0001"


def upgrade() -> None:
    op.create_table(
        "erasure",
        sa.Column("id", Id, primary_key=True),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("stand_in", sa.Text, nullable=False),
        sa.Column("contacts", Document, nullable=False),
        sa.Column("calls", Document, nullable=False),
        sa.Column("intake_from", Serial, nullable=False),
        sa.Column("intake_to", Serial, nullable=False),
        sa.Column("stream_from", Serial, nullable=False),
        sa.Column("stream_to", Serial, nullable=False),
        sa.Column("again_at", Moment, nullable=False),
    )
    op.create_index("contact_customer", "contact", [sa.text("(wishes ->> 'customer')")])
    op.create_index("contact_caller_ref", "contact", [sa.text("(wishes -> 'facts' ->> 'caller_ref')")])
