"""People, learning, certificates, sessions, hours, exams, lessons, plans, and the bus."""

import sqlalchemy as sa
from alembic import op

from shared.db.migrate import create_bus_tables
from shared.db.types import Document, Id, Moment, Serial

revision = "training_0001"
down_revision = None


def upgrade() -> None:
    create_bus_tables(op.get_bind())
    op.create_table(
        "definition",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("document", Document, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
    )
    op.create_table(
        "person",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("team", sa.Text, nullable=False),
        sa.Column("roles", Document, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("since", Moment, nullable=False),
        sa.Column("heard", Serial, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
    )
    op.create_table(
        "learning",
        sa.Column("id", Id, primary_key=True),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("opened_at", Moment, nullable=False),
        sa.Column("closed_at", Moment),
        sa.Column("outcome", sa.Text),
        sa.Column("opened_by", sa.Text, nullable=False),
        sa.Column("approver", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("skipped", Document, nullable=False),
    )
    op.create_table(
        "permit",
        sa.Column("id", Id, primary_key=True),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("supervisor", sa.Text, nullable=False),
        sa.Column("contacts_a_day", sa.Integer, nullable=False),
        sa.Column("queues", Document, nullable=False),
        sa.Column("given_at", Moment, nullable=False),
        sa.Column("given_by", sa.Text, nullable=False),
        sa.Column("until", Moment, nullable=False),
        sa.Column("ended_at", Moment),
    )
    op.create_table(
        "certificate",
        sa.Column("id", Id, primary_key=True),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("certified_at", Moment, nullable=False),
        sa.Column("expires_at", Moment),
        sa.Column("ended_at", Moment),
        sa.Column("end_reason", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("certified_by", sa.Text, nullable=False),
        sa.Column("renews", Id),
        sa.Column("evidence", Document, nullable=False),
        sa.Column("reminded", sa.Integer),
        sa.Column("due_at", Moment),
    )
    op.create_table(
        "practice_day",
        sa.Column("person", sa.Text, primary_key=True),
        sa.Column("channel", sa.Text, primary_key=True),
        sa.Column("day", sa.Text, primary_key=True),
        sa.Column("contacts", sa.Integer, nullable=False),
    )
    op.create_table(
        "evaluation",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("contact", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("contact_at", Moment, nullable=False),
        sa.Column("score", Moment),
        sa.Column("counts", sa.Boolean, nullable=False),
        sa.Column("practice", sa.Boolean, nullable=False),
        sa.Column("evaluator", sa.Text),
        sa.Column("marks", Document, nullable=False),
        sa.Column("sequence", Serial, nullable=False),
    )
    op.create_table(
        "session",
        sa.Column("id", Id, primary_key=True),
        sa.Column("course", sa.Text, nullable=False),
        sa.Column("course_version", sa.Integer, nullable=False),
        sa.Column("day", sa.Text, nullable=False),
        sa.Column("half", sa.Text, nullable=False),
        sa.Column("zone", sa.Text, nullable=False),
        sa.Column("starts_at", Moment, nullable=False),
        sa.Column("ends_at", Moment, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("room", sa.Text, nullable=False),
        sa.Column("trainers", Document, nullable=False),
        sa.Column("equipment", Document, nullable=False),
        sa.Column("capacity", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("programme", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "booking",
        sa.Column("session", Id, primary_key=True),
        sa.Column("resource", sa.Text, primary_key=True),
        sa.Column("starts_at", Moment, nullable=False),
        sa.Column("ends_at", Moment, nullable=False),
    )
    op.create_table(
        "seat",
        sa.Column("session", Id, primary_key=True),
        sa.Column("person", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("hours", Moment, nullable=False),
        sa.Column("course", sa.Text, nullable=False),
        sa.Column("starts_at", Moment, nullable=False),
        sa.Column("ends_at", Moment, nullable=False),
    )
    op.create_table(
        "resource_lock",
        sa.Column("id", sa.Text, primary_key=True),
    )
    op.create_table(
        "completion",
        sa.Column("person", sa.Text, primary_key=True),
        sa.Column("course", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("at", Moment, nullable=False),
    )
    op.create_table(
        "hours",
        sa.Column("id", Id, primary_key=True),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("year", sa.Integer, nullable=False),
        sa.Column("day", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("hours", Moment, nullable=False),
        sa.Column("session", Id),
        sa.Column("course", sa.Text, nullable=False),
        sa.Column("course_version", sa.Integer, nullable=False),
        sa.Column("noted_by", sa.Text, nullable=False),
    )
    op.create_table(
        "attempt",
        sa.Column("id", Id, primary_key=True),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("exam", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("ended_at", Moment),
        sa.Column("drawn", Document, nullable=False),
        sa.Column("marked", Document),
        sa.Column("score", Moment),
        sa.Column("passed", sa.Boolean),
    )
    op.create_table(
        "lesson",
        sa.Column("finding", sa.Text, primary_key=True),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("scorecard", sa.Text, nullable=False),
        sa.Column("criterion", sa.Text, nullable=False),
        sa.Column("course", sa.Text),
        sa.Column("evaluation", sa.Text),
        sa.Column("at_least", Moment, nullable=False),
        sa.Column("assigned_at", Moment, nullable=False),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("done_at", Moment),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("comparison", Document),
        sa.Column("sequence", Serial, nullable=False),
    )
    op.create_table(
        "programme",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("told", Document, nullable=False),
        sa.Column("template_version", sa.Integer, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
    )
    op.create_table(
        "plan",
        sa.Column("id", Id, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("told", Document, nullable=False),
        sa.Column("progress", Document, nullable=False),
        sa.Column("result", Document),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("touched_at", Moment, nullable=False),
    )
    op.create_index("ix_learning_person", "learning", ["person"])
    op.create_index("ix_permit_person", "permit", ["person"])
    op.create_index(
        "certificate_due",
        "certificate",
        ["due_at"],
        postgresql_where=sa.text("due_at is not null"),
        sqlite_where=sa.text("due_at is not null"),
    )
    op.create_index(
        "certificate_holds",
        "certificate",
        ["person", "target"],
        unique=True,
        postgresql_where=sa.text("ended_at is null"),
        sqlite_where=sa.text("ended_at is null"),
    )
    op.create_index("ix_certificate_person", "certificate", ["person"])
    op.create_index("evaluation_person", "evaluation", ["person", "contact_at"])
    op.create_index("ix_session_starts_at", "session", ["starts_at"])
    op.create_index("booking_resource", "booking", ["resource", "starts_at"])
    op.create_index("seat_person", "seat", ["person", "starts_at"])
    op.create_index("hours_person", "hours", ["person", "year"])
    op.create_index("attempt_exam", "attempt", ["exam"])
    op.create_index("attempt_person", "attempt", ["person", "exam"])
    op.create_index("ix_lesson_person", "lesson", ["person"])
