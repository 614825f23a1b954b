"""Which of the platform's field types a modelers' column has, by its PostgreSQL type (without `(…)`)."""

from sluiceway.catalog.contracts import FieldType

MODEL_TYPES = {
    "text": FieldType.STRING, "character varying": FieldType.STRING, "name": FieldType.STRING,
    "uuid": FieldType.STRING, "integer": FieldType.INTEGER, "bigint": FieldType.INTEGER,
    "smallint": FieldType.INTEGER, "double precision": FieldType.NUMBER, "real": FieldType.NUMBER,
    "numeric": FieldType.NUMBER, "boolean": FieldType.BOOLEAN, "date": FieldType.DATE,
    "timestamp with time zone": FieldType.TIMESTAMP, "timestamp without time zone": FieldType.TIMESTAMP,
    "jsonb": FieldType.JSON, "json": FieldType.JSON,
}  # fmt: skip
