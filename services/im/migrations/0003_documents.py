"""Ladders that the stricter reader refuses, or reads otherwise, are written as it reads them."""

import sqlalchemy as sa
from alembic import op

from shared import yamldoc

revision = "im_0003"
down_revision = "im_0002"


def upgrade() -> None:
    table = sa.table("ladder_version", *map(sa.column, ("name", "version", "document")))
    for row in op.get_bind().execute(sa.select(table)).all():
        text = yamldoc.as_stored_before(row.document, yes_no=True)
        if text != row.document:
            op.execute(sa.update(table).where(table.c.name == row.name, table.c.version == row.version).values(document=text))
