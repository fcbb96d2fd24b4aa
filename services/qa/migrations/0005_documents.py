"""Scorecards and rules that the stricter reader refuses, or reads otherwise, are written as it reads them."""

import sqlalchemy as sa
from alembic import op

from shared import yamldoc

revision = "qa_0005"
down_revision = "qa_0004"


def upgrade() -> None:
    for name in ("scorecard", "ruleset"):
        table = sa.table(name, *map(sa.column, ("name", "version", "document")))
        for row in op.get_bind().execute(sa.select(table)).all():
            text = yamldoc.as_stored_before(row.document)
            if text != row.document:
                op.execute(sa.update(table).where(table.c.name == row.name, table.c.version == row.version).values(document=text))
