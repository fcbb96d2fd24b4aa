"""Versions of policies, and who did what with them."""

import sqlalchemy as sa
from alembic import op

from shared.db.types import Moment, Serial

revision = "routing_0002"
down_revision = "routing_0001"


def upgrade() -> None:
    op.create_table(
        "policy_version",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("starts_at", Moment),
        sa.Column("state", sa.Text, nullable=False),
    )
    op.create_table(
        "policy_audit",
        sa.Column("id", Serial, primary_key=True, autoincrement=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    active = sa.text("state = 'active'")
    op.create_index("policy_active", "policy_version", ["name"], unique=True, postgresql_where=active, sqlite_where=active)
    op.create_index("ix_policy_audit_name", "policy_audit", ["name"])
