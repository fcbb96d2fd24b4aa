"""Intake, contacts, customers, keys, and the bus."""

import sqlalchemy as sa
from alembic import op

from shared.db.migrate import create_bus_tables
from shared.db.types import Document, Id, Moment, Serial

revision = "gateway_0001"
down_revision = None


def upgrade() -> None:
    create_bus_tables(op.get_bind())
    op.create_table(
        "intake",
        sa.Column("seq", Serial, primary_key=True, autoincrement=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("observation", Document, nullable=False),
        sa.Column("received_at", Moment, nullable=False),
        sa.Column("processed_at", Moment),
        sa.UniqueConstraint("source", "key"),
        sqlite_autoincrement=True,
    )
    waiting = sa.text("processed_at is null")
    op.create_index("intake_unprocessed", "intake", ["seq"], postgresql_where=waiting, sqlite_where=waiting)
    op.create_table(
        "refused",
        sa.Column("seq", Serial, primary_key=True, autoincrement=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("door", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("received_at", Moment, nullable=False),
    )
    op.create_table(
        "contact",
        sa.Column("id", Id, primary_key=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("required_skills", Document, nullable=False),
        sa.Column("wishes", Document, nullable=False),
        sa.Column("observations", Document, nullable=False),
        sa.Column("legs", Document, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.Column("merged_into", Id),
    )
    op.create_index("contact_open", "contact", ["source"], postgresql_where=sa.text("is_open"), sqlite_where=sa.text("is_open"))
    op.create_table(
        "call_alias",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("alias", sa.Text, primary_key=True),
        sa.Column("contact", Id, nullable=False, index=True),
    )
    op.create_table(
        "agent_report",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("agent", sa.Text, primary_key=True),
        sa.Column("queue", sa.Text, primary_key=True),
        sa.Column("report", Document, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
    )
    op.create_table(
        "source_restart",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("at", Moment, primary_key=True),
    )
    op.create_table(
        "source_snapshot",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("at", Moment, primary_key=True),
        sa.Column("calls", Document, nullable=False),
    )
    op.create_table(
        "source",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("settings", Document, nullable=False),
        sa.Column("changed_at", Moment, nullable=False),
    )
    op.create_table(
        "source_secret",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "customer",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("profile", Document, nullable=False),
        sa.Column("changed_at", Moment, nullable=False),
    )
    op.create_table(
        "customer_number",
        sa.Column("number", sa.Text, primary_key=True),
        sa.Column("customer", sa.Text, primary_key=True, index=True),
    )
    op.create_table(
        "api_key",
        sa.Column("id", Id, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False, unique=True),
        sa.Column("roles", Document, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("revoked_at", Moment),
    )
