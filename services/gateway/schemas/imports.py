"""What the doors of imports and exports take and give."""

from marshmallow import fields

from shared.contracts.fields import Data, Input


class Import(Input):
    dry_run = fields.Boolean(load_default=False, metadata={"description": "change nothing, and say what would change"})
    by_row = fields.Boolean(
        load_default=False, metadata={"description": "write the rows that are fine although others are not; otherwise it is all or nothing"}
    )


class RowError(Data):
    line = fields.Integer(metadata={"description": "of the file, from 1"})
    column = fields.String(metadata={"description": "empty: the whole row"})
    reason = fields.String()


class ImportReport(Data):
    rows = fields.Integer()
    created = fields.Integer(metadata={"description": "new, or that would be"})
    updated = fields.Integer()
    unchanged = fields.Integer(metadata={"description": "there already as the row says"})
    rejected = fields.Integer()
    errors = fields.List(fields.Nested(RowError), metadata={"description": "the first hundred"})
    written = fields.Boolean()


TABLE = {"type": "string", "examples": ["id,name,channels\r\na1,Ann,voice|chat\r\n"]}
