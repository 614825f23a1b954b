"""A suite over silver as it stands: what the daily quality run and the asset checks evaluate.

The live gate judges each batch as it comes; this looks at many batches together, where statements about a
whole day (its row count, a mean, a share) mean something.
"""

from datetime import datetime

import pandas as pd
from psycopg import sql

from expectations.runner import GreatExpectationsGate
from sluiceway.catalog.contracts import FieldType, Pipeline
from sluiceway.infra.database import Database, Role
from sluiceway.quality.contracts import ExpectationOutcome
from sluiceway.quality.service import record_outcomes

MOST_ROWS = 1_000_000
# pandas types that keep an absent value apart from zero, false and the empty text.
_DTYPES = {
    FieldType.STRING: "object",
    FieldType.INTEGER: "Int64",
    FieldType.NUMBER: "float64",
    FieldType.BOOLEAN: "boolean",
    FieldType.TIMESTAMP: "datetime64[ns, UTC]",
    FieldType.DATE: "object",
    FieldType.JSON: "object",
}


def deep_check_silver(
    database: Database, gate: GreatExpectationsGate, pipeline: Pipeline, since: datetime, until: datetime
) -> tuple[ExpectationOutcome, ...]:
    """Evaluate the pipeline's suite over the silver rows received in [`since`, `until`), newest
    1,000,000 at most, and keep the outcomes as origin `deep`. Nothing is quarantined by it."""
    frame = _read(database, pipeline, since, until)
    outcomes = gate.deep_check(pipeline, frame)
    with database.transaction(Role.WRITER, workspace_id=pipeline.workspace_id) as connection:
        record_outcomes(connection, pipeline, outcomes, origin="deep", at=until)
    return outcomes


def _read(database: Database, pipeline: Pipeline, since: datetime, until: datetime) -> pd.DataFrame:
    names = [field.name for field in pipeline.spec.fields]
    query = sql.SQL(
        "SELECT {} FROM silver.{} WHERE received_at >= %s AND received_at < %s ORDER BY seq DESC LIMIT %s"
    ).format(sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(pipeline.silver_table))
    with database.connect(Role.WRITER) as connection:
        connection.execute(
            "SELECT set_config('sluiceway.workspace_id', %s, true)", (str(pipeline.workspace_id),)
        )
        rows = connection.execute(query, (since, until, MOST_ROWS)).fetchall()
    frame = pd.DataFrame(rows, columns=names)
    return frame.astype({field.name: _DTYPES[field.type] for field in pipeline.spec.fields})
