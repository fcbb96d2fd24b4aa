"""Questions, rooms, experts, ladders, and the bus."""

import sqlalchemy as sa
from alembic import op

from shared.db.migrate import create_bus_tables
from shared.db.types import Document, Id, Moment

revision = "im_0001"
down_revision = None


def upgrade() -> None:
    create_bus_tables(op.get_bind())
    op.create_table(
        "escalation",
        sa.Column("id", Id, primary_key=True),
        sa.Column("code", sa.Text, nullable=False, unique=True),
        sa.Column("contact", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("urgency", sa.Text, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("opened_at", Moment, nullable=False),
        sa.Column("ladder", sa.Text, nullable=False),
        sa.Column("ladder_version", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("origin", Moment, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("next_at", Moment),
        sa.Column("claimed_by", sa.Text),
        sa.Column("claimed_at", Moment),
        sa.Column("claims", sa.Integer, nullable=False),
        sa.Column("answered_by", sa.Text),
        sa.Column("answered_at", Moment),
        sa.Column("answer", sa.Integer),
        sa.Column("answer_step", sa.Integer),
        sa.Column("closed_at", Moment),
        sa.Column("close_reason", sa.Text, nullable=False),
        sa.Column("contact_ended_at", Moment),
        sa.Column("hold_seconds", Moment),
        sa.Column("in_contact", sa.Boolean),
        sa.Column("messages", sa.Integer, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("members", Document, nullable=False),
        sa.Column("asked", Document, nullable=False),
        sa.Column("lost_claims", sa.Integer, nullable=False, server_default="0"),
        sa.Column("erased_at", Moment),
    )
    op.create_table(
        "message",
        sa.Column("escalation", Id, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("at", Moment, nullable=False),
    )
    op.create_table(
        "ladder_step",
        sa.Column("escalation", Id, primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("asked", Document, nullable=False),
        sa.Column("choice", Document, nullable=False),
    )
    op.create_table(
        "expert",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("topics", Document, nullable=False),
        sa.Column("languages", Document, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("team", sa.Text, nullable=False),
        sa.Column("department", sa.Text, nullable=False),
        sa.Column("ranks", Document, nullable=False),
        sa.Column("cap", sa.Integer, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("changed_at", Moment, nullable=False),
    )
    op.create_table(
        "presence",
        sa.Column("person", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("since", Moment, nullable=False),
        sa.Column("until", Moment, nullable=False),
    )
    op.create_table(
        "record",
        sa.Column("expert", sa.Text, primary_key=True),
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("asked", sa.Integer, nullable=False),
        sa.Column("accepted", sa.Integer, nullable=False),
        sa.Column("answered", sa.Integer, nullable=False),
        sa.Column("log_seconds", Moment, nullable=False),
    )
    op.create_table(
        "ladder_version",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
    )
    op.create_table(
        "card",
        sa.Column("contact", sa.Text, primary_key=True),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("waited_seconds", Moment),
        sa.Column("assigned_at", Moment, nullable=False),
        sa.Column("ended_at", Moment),
        sa.Column("talk_seconds", Moment),
        sa.Column("disposition", sa.Text),
        sa.Column("resolved", sa.Boolean),
        sa.Column("satisfied", Moment),
        sa.Column("escalations", sa.Integer, nullable=False, server_default="0"),
        sa.Column("sequence", Moment, nullable=False),
    )
    op.create_index("ix_escalation_contact", "escalation", ["contact"])
    op.create_index("ix_escalation_opened_at", "escalation", ["opened_at"])
    due, alive, held = sa.text("next_at is not null"), sa.text("closed_at is null"), sa.text("state in ('claimed', 'answered')")
    op.create_index("escalation_due", "escalation", ["next_at"], postgresql_where=due, sqlite_where=due)
    op.create_index("escalation_of_agent", "escalation", ["agent"], postgresql_where=alive, sqlite_where=alive)
    op.create_index("escalation_of_expert", "escalation", ["claimed_by"], postgresql_where=held, sqlite_where=held)
    op.create_index("card_ended", "card", ["ended_at"])
