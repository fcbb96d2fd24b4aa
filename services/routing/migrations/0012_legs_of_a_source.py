"""The newest legs of a source are found without those of all others."""

from alembic import op

revision = "routing_0012"
down_revision = "routing_0011"


def upgrade() -> None:
    op.create_index("leg_of_source", "leg", ["source", "arrived_at"])
