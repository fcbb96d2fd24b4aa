"""The newest legs of a source, and of each of its queues, are found without all others."""

from alembic import op

revision = "routing_0012"
down_revision = "routing_0011"


def upgrade() -> None:
    op.create_index("leg_of_source", "leg", ["source", "arrived_at"])
    op.create_index("leg_of_queue", "leg", ["source", "queue", "arrived_at"])
