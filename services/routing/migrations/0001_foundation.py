"""The desk, legs, and the bus."""

import sqlalchemy as sa
from alembic import op

from shared.db.migrate import create_bus_tables
from shared.db.types import Document, Id, Moment, Serial

revision = "routing_0001"
down_revision = None


def upgrade() -> None:
    create_bus_tables(op.get_bind())
    op.create_table(
        "agent",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("skills", Document, nullable=False),
        sa.Column("languages", Document, nullable=False),
        sa.Column("regions", Document, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("team", sa.Text, nullable=False),
        sa.Column("employment", sa.Text, nullable=False),
        sa.Column("pool", sa.Text, nullable=False),
        sa.Column("channels", Document, nullable=False),
        sa.Column("certificates", Document),
        sa.Column("permits", Document, nullable=False),
        sa.Column("practised", Document, nullable=False),
        sa.Column("capacity", Document, nullable=False),
        sa.Column("queues", Document, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("aliases", Document, nullable=False),
        sa.Column("presence", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("since", Moment, nullable=False),
        sa.Column("idle_since", Moment, nullable=False),
        sa.Column("work", Document, nullable=False),
        sa.Column("missed_in_row", sa.Integer, nullable=False),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("shard", sa.Integer, nullable=False, server_default="0"),
    )
    op.create_table(
        "contact",
        sa.Column("id", Id, primary_key=True),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("arrived_at", Moment, nullable=False),
        sa.Column("place_at", Moment, nullable=False),
        sa.Column("leg", sa.Integer, nullable=False),
        sa.Column("told_leg", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("required_skills", Document, nullable=False),
        sa.Column("wants", Document, nullable=False),
        sa.Column("facts", Document, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("thread", sa.Text, nullable=False),
        sa.Column("matter", Document),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("agent", sa.Text),
        sa.Column("reserved_for", sa.Text),
        sa.Column("reserved_until", Moment, nullable=False),
        sa.Column("offer", Id),
        sa.Column("passed", Document, nullable=False),
        sa.Column("parked_at", Moment),
        sa.Column("parked_until", Moment),
        sa.Column("polled", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("pended_at", Moment),
        sa.Column("callback", Document),
        sa.Column("estimate", Moment),
        sa.Column("answered_at", Moment),
        sa.Column("ended_at", Moment),
        sa.Column("ended_by", sa.Text, nullable=False),
        sa.Column("disposition", Document),
        sa.Column("conference", Document, nullable=False),
        sa.Column("suggested", sa.Text, nullable=False),
        sa.Column("shard", sa.Integer, nullable=False, server_default="0"),
    )
    op.create_table(
        "decision",
        sa.Column("id", Id, primary_key=True),
        sa.Column("contact", Id, nullable=False, index=True),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("at", Moment, nullable=False, index=True),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_table(
        "experience",
        sa.Column("queue", sa.Text, primary_key=True),
        sa.Column("learnt", Document, nullable=False),
    )
    op.create_table(
        "last_agent",
        sa.Column("customer", sa.Text, primary_key=True),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("at", Moment, nullable=False),
    )
    op.create_table(
        "desk_epoch",
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Integer, nullable=False),
    )
    op.create_table(
        "pool",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("shard", sa.Integer, nullable=False),
    )
    op.create_table(
        "mailbox",
        sa.Column("seq", Serial, primary_key=True, autoincrement=True),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("body", Document, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("mailbox_shard", "mailbox", ["shard", "seq"])
    op.create_index("mailbox_subject", "mailbox", ["subject"])
    op.create_table(
        "leg",
        sa.Column("contact", Id, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("call", sa.Text),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("observed", sa.Boolean, nullable=False),
        sa.Column("agent", sa.Text),
        sa.Column("address", sa.Text),
        sa.Column("position", sa.Integer),
        sa.Column("arrived_at", Moment),
        sa.Column("answered_at", Moment),
        sa.Column("ended_at", Moment),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("ended_by", sa.Text),
        sa.Column("target", sa.Text),
        sa.Column("hold_seconds", Moment),
        sa.Column("talk_seconds", Moment),
        sa.Column("missed", Document),
        sa.Column("ringing", Document),
        sa.Column("estimated", Document),
        sa.Column("uncertain", sa.Text),
        sa.Column("kind", sa.Text, nullable=False, server_default="inbound"),
        sa.Column("estimate", Moment),
        sa.Column("sequence", Serial, nullable=False),
    )
    op.create_table(
        "observed_agent",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("agent", sa.Text, primary_key=True),
        sa.Column("queue", sa.Text, primary_key=True),
        sa.Column("address", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("since", Moment, nullable=False),
        sa.Column("sequence", Serial, nullable=False),
    )
    op.create_table(
        "offer",
        sa.Column("id", Id, primary_key=True),
        sa.Column("contact", Id, nullable=False, index=True),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("made_at", Moment, nullable=False),
        sa.Column("expires_at", Moment, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("closed_at", Moment),
    )
    op.create_table(
        "queue",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("pool", sa.Text, nullable=False),
        sa.Column("required_skills", Document, nullable=False),
        sa.Column("offer_seconds", Moment, nullable=False),
        sa.Column("retry_seconds", Moment, nullable=False),
        sa.Column("miss_limit", sa.Integer, nullable=False),
        sa.Column("wrap_up", sa.Boolean, nullable=False),
        sa.Column("service_level_seconds", Moment, nullable=False),
        sa.Column("short_abandon_seconds", Moment, nullable=False),
        sa.Column("abandons_count", sa.Boolean, nullable=False),
        sa.Column("service_level_unit", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("calendar", sa.Text, nullable=False),
        sa.Column("dispositions", sa.Text, nullable=False),
        sa.Column("zone", sa.Text, nullable=False),
        sa.Column("reply_seconds", Moment, nullable=False),
        sa.Column("owner_seconds", Moment, nullable=False),
        sa.Column("call_after_replies", sa.Integer, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("team", sa.Text, nullable=False),
    )
    op.create_table(
        "training_word",
        sa.Column("person", sa.Text, primary_key=True),
        sa.Column("channel", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("until", Moment),
        sa.Column("supervisor", sa.Text),
        sa.Column("per_day", sa.Integer),
        sa.Column("sequence", Serial, nullable=False),
    )
    live = sa.text("ended_at is null")
    op.create_index("contact_live", "contact", ["id"], postgresql_where=live, sqlite_where=live)
    op.create_index("contact_ended", "contact", ["ended_at"])
    op.create_index("leg_arrived", "leg", ["arrived_at"])
    still_open = sa.text("outcome in ('waiting', 'talking')")
    op.create_index("leg_open", "leg", ["source"], postgresql_where=still_open, sqlite_where=still_open)
