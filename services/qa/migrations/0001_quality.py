"""Contacts, scorecards, evaluations, surveys, samples, calibrations, findings, analyses, and the bus."""

import sqlalchemy as sa
from alembic import op

from shared.db.migrate import create_bus_tables
from shared.db.types import Document, Id, Moment, Serial

revision = "qa_0001"
down_revision = None


def upgrade() -> None:
    create_bus_tables(op.get_bind())
    op.create_table(
        "contact",
        sa.Column("id", Id, primary_key=True),
        sa.Column("queue", sa.Text, nullable=False, server_default=""),
        sa.Column("channel", sa.Text, nullable=False, server_default=""),
        sa.Column("agent", sa.Text),
        sa.Column("customer", sa.Text),
        sa.Column("thread", sa.Text),
        sa.Column("matter", sa.Text),
        sa.Column("direction", sa.Text, nullable=False, server_default="inbound"),
        sa.Column("outcome", sa.Text),
        sa.Column("ended_by", sa.Text),
        sa.Column("arrived_at", Moment),
        sa.Column("ended_at", Moment),
        sa.Column("waited_seconds", sa.Float),
        sa.Column("talk_seconds", sa.Float),
        sa.Column("hold_seconds", sa.Float),
        sa.Column("holds", sa.Integer),
        sa.Column("wrap_up_seconds", sa.Float),
        sa.Column("silence_seconds", sa.Float),
        sa.Column("transferred", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("transfers", sa.Integer, nullable=False, server_default="0"),
        sa.Column("escalations", sa.Integer, nullable=False, server_default="0"),
        sa.Column("answered_inside", sa.Integer, nullable=False, server_default="0"),
        sa.Column("recordings", sa.Integer, nullable=False, server_default="0"),
        sa.Column("turns", sa.Integer, nullable=False, server_default="0"),
        sa.Column("self_service_failed", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("practice", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("supervisor", sa.Text),
        sa.Column("new_staff", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("disposition", sa.Text),
        sa.Column("resolved", sa.Boolean),
        sa.Column("amount", sa.Float),
        sa.Column("currency", sa.Text),
        sa.Column("next_at", Moment),
        sa.Column("is_repeat", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("check_at", Moment),
        sa.Column("routing_sequence", Serial, nullable=False, server_default="0"),
        sa.Column("gateway_sequence", Serial, nullable=False, server_default="0"),
    )
    op.create_table(
        "handover",
        sa.Column("contact", Id, primary_key=True),
        sa.Column("leg", sa.Integer, primary_key=True),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("target", sa.Text),
        sa.Column("talk_seconds", sa.Float),
        sa.Column("at", Moment, nullable=False),
    )
    op.create_table(
        "transcript",
        sa.Column("contact", Id, primary_key=True),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("turns", Document, nullable=False),
        sa.Column("stored_at", Moment, nullable=False),
    )
    op.create_table(
        "opening",
        sa.Column("contact", Id, primary_key=True),
        sa.Column("person", sa.Text, primary_key=True),
        sa.Column("at", Moment, nullable=False),
    )
    op.create_table(
        "staff",
        sa.Column("person", sa.Text, primary_key=True),
        sa.Column("team", sa.Text, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("roles", Document, nullable=False),
        sa.Column("since", Moment, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("sequence", Serial, nullable=False),
    )
    op.create_table(
        "permit",
        sa.Column("person", sa.Text, primary_key=True),
        sa.Column("channel", sa.Text, primary_key=True),
        sa.Column("supervisor", sa.Text),
        sa.Column("until", Moment),
        sa.Column("certified_at", Moment),
        sa.Column("sequence", Serial, nullable=False),
    )
    op.create_table(
        "scorecard",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("criteria", Document, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
    )
    op.create_table(
        "proposal",
        sa.Column("id", Id, primary_key=True),
        sa.Column("scorecard", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("analysis", Id, nullable=False),
        sa.Column("weights", Document, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("decided_at", Moment),
        sa.Column("decided_by", sa.Text),
        sa.Column("accepted", sa.Boolean),
    )
    op.create_table(
        "evaluation",
        sa.Column("id", Id, primary_key=True),
        sa.Column("contact", Id, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("contact_at", Moment, nullable=False),
        sa.Column("scorecard", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("scorecard_kind", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False, server_default="human"),
        sa.Column("evaluator", sa.Text, nullable=False),
        sa.Column("evaluator_role", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("other", Id),
        sa.Column("calibration", Id),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("blind", sa.Boolean, nullable=False),
        sa.Column("live", sa.Boolean, nullable=False),
        sa.Column("practice", sa.Boolean, nullable=False),
        sa.Column("supervisor", sa.Text),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("probability", sa.Float),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("failed", Document, nullable=False),
        sa.Column("fails_customer", sa.Boolean, nullable=False),
        sa.Column("fails_business", sa.Boolean, nullable=False),
        sa.Column("fails_compliance", sa.Boolean, nullable=False),
        sa.Column("counts", sa.Boolean, nullable=False),
        sa.Column("dispute", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("submitted_at", Moment),
        sa.Column("ended_at", Moment),
        sa.Column("sequence", sa.Integer, nullable=False),
    )
    op.create_table(
        "mark",
        sa.Column("evaluation", Id, primary_key=True),
        sa.Column("criterion", sa.Text, primary_key=True),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("value", sa.Float),
        sa.Column("missed", sa.Boolean, nullable=False),
        sa.Column("second", sa.Float),
        sa.Column("message", sa.Integer),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "ruleset",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
    )
    op.create_table(
        "automatic",
        sa.Column("contact", Id, primary_key=True),
        sa.Column("ruleset", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("failed", Document, nullable=False),
        sa.Column("risk", sa.Float, nullable=False),
        sa.Column("reasons", Document, nullable=False),
        sa.Column("results", Document, nullable=False),
        sa.Column("contact_at", Moment, nullable=False),
        sa.Column("checked_at", Moment, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
    )
    op.create_table(
        "sample",
        sa.Column("id", Id, primary_key=True),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("plan", Document, nullable=False),
        sa.Column("strata", Document, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
    )
    op.create_table(
        "sampled",
        sa.Column("sample", Id, primary_key=True),
        sa.Column("contact", Id, primary_key=True),
        sa.Column("method", sa.Text, primary_key=True),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("stratum", sa.Text, nullable=False),
        sa.Column("probability", sa.Float),
        sa.Column("risk", sa.Float),
        sa.Column("reasons", Document, nullable=False),
        sa.Column("evaluator", sa.Text),
        sa.Column("evaluation", Id),
    )
    op.create_table(
        "survey",
        sa.Column("id", Id, primary_key=True),
        sa.Column("contact", Id, nullable=False, unique=True),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("contact_at", Moment, nullable=False),
        sa.Column("ask_at", Moment),
        sa.Column("sent_at", Moment),
        sa.Column("answer_until", Moment),
        sa.Column("answered_at", Moment),
        sa.Column("csat", sa.Integer),
        sa.Column("resolved", sa.Boolean),
        sa.Column("text", sa.Text),
    )
    op.create_table(
        "survey_rule",
        sa.Column("queue", sa.Text, primary_key=True),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("share", sa.Float, nullable=False),
        sa.Column("fatigue_days", sa.Float, nullable=False),
        sa.Column("delay_seconds", sa.Float, nullable=False),
        sa.Column("answer_days", sa.Float, nullable=False),
        sa.Column("channels", Document, nullable=False),
    )
    op.create_table(
        "calibration",
        sa.Column("id", Id, primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("scorecard", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("contacts", Document, nullable=False),
        sa.Column("evaluators", Document, nullable=False),
        sa.Column("leader", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("closed_at", Moment),
        sa.Column("analysis", Id),
    )
    op.create_table(
        "finding",
        sa.Column("id", Id, primary_key=True),
        sa.Column("contact", Id, nullable=False),
        sa.Column("evaluation", Id),
        sa.Column("agent", sa.Text),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("scorecard", sa.Text, nullable=False),
        sa.Column("scorecard_version", sa.Integer, nullable=False),
        sa.Column("section", sa.Text, nullable=False),
        sa.Column("criterion", sa.Text, nullable=False),
        sa.Column("title", Document, nullable=False),
        sa.Column("critical", sa.Text),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("check", Document, nullable=False),
        sa.Column("module", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("planned_at", Moment, nullable=False),
        sa.Column("closed_at", Moment),
        sa.Column("evidence", Document),
        sa.Column("sequence", sa.Integer, nullable=False),
    )
    op.create_table(
        "flag",
        sa.Column("id", Id, primary_key=True),
        sa.Column("analysis", Id, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("measure", sa.Text, nullable=False),
        sa.Column("figures", Document, nullable=False),
        sa.Column("contacts", Document, nullable=False),
        sa.Column("from_at", Moment, nullable=False),
        sa.Column("to_at", Moment, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("heard", Document),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("closed_at", Moment),
    )
    op.create_table(
        "analysis",
        sa.Column("id", Id, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("parameters", Document, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("progress", sa.Float, nullable=False),
        sa.Column("beat_at", Moment),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("requested_at", Moment, nullable=False),
        sa.Column("started_at", Moment),
        sa.Column("finished_at", Moment),
        sa.Column("error", sa.Text),
        sa.Column("result", Document),
    )
    op.create_index(
        "contact_check",
        "contact",
        ["check_at"],
        postgresql_where=sa.text("check_at is not null"),
        sqlite_where=sa.text("check_at is not null"),
    )
    op.create_index("contact_ended", "contact", ["ended_at"])
    op.create_index("contact_of_agent", "contact", ["agent", "ended_at"])
    op.create_index("contact_of_customer", "contact", ["customer", "matter", "arrived_at"])
    op.create_index("handover_at", "handover", ["at"])
    op.create_index("transcript_stored", "transcript", ["stored_at"])
    op.create_index("ix_proposal_scorecard", "proposal", ["scorecard"])
    op.create_index("evaluation_calibration", "evaluation", ["calibration"])
    op.create_index("evaluation_of_agent", "evaluation", ["agent", "submitted_at"])
    op.create_index("evaluation_of_contact", "evaluation", ["contact"])
    op.create_index("evaluation_of_evaluator", "evaluation", ["evaluator", "id"])
    op.create_index("evaluation_other", "evaluation", ["other"])
    op.create_index("evaluation_submitted", "evaluation", ["submitted_at"])
    op.create_index("automatic_figures", "automatic", ["contact_at", "ruleset", "agent", "queue", "channel", "score"])
    op.create_index("sampled_contact", "sampled", ["contact"])
    op.create_index("survey_contact_at", "survey", ["contact_at"])
    op.create_index(
        "survey_due", "survey", ["ask_at"], postgresql_where=sa.text("ask_at is not null"), sqlite_where=sa.text("ask_at is not null")
    )
    op.create_index("survey_of_customer", "survey", ["customer", "sent_at"])
    op.create_index("finding_of_agent", "finding", ["agent", "id"])
    op.create_index(
        "finding_open",
        "finding",
        ["criterion", "agent"],
        postgresql_where=sa.text("state = 'open'"),
        sqlite_where=sa.text("state = 'open'"),
    )
    op.create_index("flag_of", "flag", ["agent", "measure", "state"])
    op.create_index("analysis_newest", "analysis", ["kind", "subject", "id"])
