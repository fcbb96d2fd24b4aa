"""Agents' time, outcomes of contacts, and which quarter hours are final."""

import sqlalchemy as sa
from alembic import op

from shared.db.types import Document, Id, Moment, Serial

revision = "routing_0005"
down_revision = "routing_0004"


def upgrade() -> None:
    op.create_table(
        "agent_span",
        sa.Column("agent", sa.Text, primary_key=True),
        sa.Column("seq", Serial, primary_key=True, autoincrement=False),
        sa.Column("since", Moment, nullable=False),
        sa.Column("until", Moment),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("presence", sa.Text, nullable=False),
    )
    op.create_table(
        "contact_outcome",
        sa.Column("contact", Id, primary_key=True),
        sa.Column("leg", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("resolved", sa.Boolean),
        sa.Column("amount", Serial),
        sa.Column("currency", sa.Text),
        sa.Column("at", Moment, nullable=False),
    )
    op.create_table(
        "interval_state",
        sa.Column("queue", sa.Text, primary_key=True),
        sa.Column("start", Serial, primary_key=True, autoincrement=False),
        sa.Column("figures", Document),
        sa.Column("finalised_at", Moment),
        sa.Column("restated_count", sa.Integer, nullable=False),
        sa.Column("looked_at", Moment, nullable=False),
        sa.Column("due", Serial),
    )
    op.create_table(
        "interval_restatement",
        sa.Column("queue", sa.Text, primary_key=True),
        sa.Column("start", Serial, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("before", Document, nullable=False),
        sa.Column("after", Document, nullable=False),
    )
    op.create_table(
        "interval_progress",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("since", Serial, nullable=False),
        sa.Column("until", Serial, nullable=False),
    )
    still_open, due = sa.text("until is null"), sa.text("due is not null")
    op.create_index("agent_span_open", "agent_span", ["agent"], postgresql_where=still_open, sqlite_where=still_open)
    op.create_index("agent_span_until", "agent_span", ["until"])
    op.create_index("interval_due", "interval_state", ["looked_at"], postgresql_where=due, sqlite_where=due)
    op.create_index("interval_restatement_start", "interval_restatement", ["start"])
