"""Masked columns as SQL. Whoever names a masked column gets the mask's expression wherever it stands: in the
answer, in a filter, in a grouping, in an order. So nothing tells more than what is shown. Pure.
"""

from psycopg.sql import SQL, Composable, Literal

from sluiceway.rules.contracts import Mask

SETTING = "sluiceway.pseudonym_key"


def masked_sql(column: Composable, mask: Mask) -> Composable:
    """What is shown instead of the column, as text; no value stays no value. Not for `hide`."""
    text = SQL("({})::text").format(column)
    if mask.kind == "hash":
        return SQL("app.pseudonym({})").format(text)
    assert mask.kind == "partial"
    return SQL(
        "CASE WHEN length({t}) <= {kept} THEN '…' ELSE left({t}, {first}) || '…' || right({t}, {last}) END"
    ).format(t=text, kept=Literal(mask.first + mask.last), first=Literal(mask.first), last=Literal(mask.last))
