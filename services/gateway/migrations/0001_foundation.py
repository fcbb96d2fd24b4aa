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
        sa.Column("deleted_at", Moment),
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
        "stream_event",
        sa.Column("position", Serial, primary_key=True, autoincrement=True),
        sa.Column("id", Id, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("contact", sa.Text),
        sa.Column("queue", sa.Text),
        sa.Column("agent", sa.Text),
        sa.Column("people", sa.Text),
        sa.Column("body", Document, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "api_key",
        sa.Column("id", Id, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False, unique=True),
        sa.Column("roles", Document, nullable=False),
        sa.Column("sites", Document, nullable=False),
        sa.Column("teams", Document, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("expires_at", Moment),
        sa.Column("revoked_at", Moment),
    )
    op.create_table(
        "site",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("zone", sa.Text, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("changed_at", Moment, nullable=False),
    )
    op.create_table(
        "team",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("changed_at", Moment, nullable=False),
    )
    op.create_table(
        "person",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("email", sa.Text),
        sa.Column("email_key", sa.Text, unique=True),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("team", sa.Text, nullable=False),
        sa.Column("roles", Document, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("sites", Document),
        sa.Column("teams", Document),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("changed_at", Moment, nullable=False),
    )
    op.create_table(
        "password",
        sa.Column("person", sa.Text, primary_key=True),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("changed_at", Moment, nullable=False),
    )
    op.create_table(
        "session",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("person", sa.Text, nullable=False, index=True),
        sa.Column("roles", Document),
        sa.Column("made_at", Moment, nullable=False),
        sa.Column("seen_at", Moment, nullable=False),
    )
    op.create_table(
        "failed_sign_in",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("last_at", Moment, nullable=False),
        sa.Column("locked_until", Moment, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("id", Id, primary_key=True),
        sa.Column("at", Moment, nullable=False),
        sa.Column("who", sa.Text, nullable=False, index=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("act", sa.Text, nullable=False),
        sa.Column("object", sa.Text, nullable=False, index=True),
        sa.Column("status", sa.Integer),
        sa.Column("summary", sa.Text, nullable=False),
    )
    op.create_table(
        "request_key",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("made", Id, nullable=False),
        sa.Column("claimed_at", Moment, nullable=False, index=True),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("answer", sa.Text),
    )
    op.create_table(
        "webhook",
        sa.Column("id", Id, primary_key=True),
        sa.Column("settings", Document, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("disabled", sa.Text, nullable=False),
        sa.Column("position", Serial, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("failing_since", Moment),
        sa.Column("paused_until", Moment, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("changed_at", Moment, nullable=False),
    )
    op.create_table(
        "webhook_secret",
        sa.Column("webhook", Id, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("until", Moment),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("id", Id, primary_key=True),
        sa.Column("webhook", Id, nullable=False),
        sa.Column("position", Serial, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("body", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("queued_at", Moment, nullable=False),
        sa.Column("next_at", Moment),
        sa.Column("tried_at", Moment),
        sa.Column("status", sa.Integer),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("excerpt", sa.Text, nullable=False),
        sa.UniqueConstraint("webhook", "position"),
    )
    owed = sa.text("state = 'pending'")
    op.create_index("webhook_delivery_pending", "webhook_delivery", ["webhook", "position"], postgresql_where=owed, sqlite_where=owed)
    op.create_index("webhook_delivery_shown", "webhook_delivery", ["webhook", "id"])
    op.create_table(
        "chat",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("people", Document, nullable=False),
        sa.Column("changed_at", Moment, nullable=False),
    )
    op.create_table(
        "chat_secret",
        sa.Column("chat", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "promised_callback",
        sa.Column("contact", sa.Text, primary_key=True),
        sa.Column("escalation", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("next_at", Moment, nullable=False),
    )
    op.create_table(
        "import_job",
        sa.Column("id", Id, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("touched_at", Moment, nullable=False),
    )
    op.create_table(
        "import_row",
        sa.Column("job", Id, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("line", sa.Integer, nullable=False),
        sa.Column("told", Document, nullable=False),
    )
    op.create_table(
        "recorded_call",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("call", sa.Text, primary_key=True),
        sa.Column("linked", sa.Text),
        sa.Column("contact", Id, index=True),
        sa.Column("told", Document, nullable=False),
        sa.Column("told_at", Moment, nullable=False),
    )
    unclaimed = sa.text("contact is null")
    op.create_index("recorded_call_unclaimed", "recorded_call", ["source", "linked"], postgresql_where=unclaimed, sqlite_where=unclaimed)
    op.create_table(
        "recording",
        sa.Column("id", Id, primary_key=True),
        sa.Column("contact", Id, nullable=False, index=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("call", sa.Text, nullable=False),
        sa.Column("location", sa.Text, nullable=False),
        sa.Column("started_at", Moment),
        sa.Column("ended_at", Moment),
        sa.Column("seconds", sa.Float),
        sa.Column("failed", sa.Boolean, nullable=False),
        sa.Column("muted", Document, nullable=False),
        sa.Column("consent", sa.Text, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
    )
    op.create_index("recording_location", "recording", ["source", "call", "location"], unique=True)
    op.create_table(
        "recording_pause",
        sa.Column("id", Id, primary_key=True),
        sa.Column("contact", Id, nullable=False, index=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("paused_at", Moment, nullable=False),
        sa.Column("paused_by", sa.Text, nullable=False),
        sa.Column("resumed_at", Moment),
        sa.Column("resumed_by", sa.Text),
        sa.Column("waiting", sa.Boolean, nullable=False),
        sa.Column("confirmed", sa.Text),
        sa.Column("trouble", sa.Text),
    )
    op.create_index(
        "recording_pause_waiting", "recording_pause", ["source"], postgresql_where=sa.text("waiting"), sqlite_where=sa.text("waiting")
    )
    op.create_table(
        "recording_access",
        sa.Column("seq", Serial, primary_key=True, autoincrement=True),
        sa.Column("recording", Id, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("first", Serial, nullable=False),
        sa.Column("last", Serial, nullable=False),
        sa.Column("size", Serial, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("recording_access_of", "recording_access", ["recording", "seq"])
