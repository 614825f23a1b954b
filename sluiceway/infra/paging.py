"""Lists that grow, the newest first: a page of one begins behind the last row of the page before.

Belongs here: what such a list's statement says of its page. Not here: the cursor that callers are given
(`api.pagination`).
"""

from datetime import datetime


def newest_first(
    time: str, key: str, after: tuple[datetime, object] | None, limit: int
) -> tuple[str, dict[str, object]]:
    """How a statement ends that has a WHERE, and the values this needs: `:at`, `:id`, `:limit`.

    `time`, `key`: the columns that order it, as the statement names them; together they are unique. `after`:
    both of the last row seen; None: from the beginning.
    """
    behind = f" AND ({time}, {key}) < (:at, :id)" if after is not None else ""
    values = {"at": after[0], "id": after[1]} if after is not None else {}
    return f"{behind} ORDER BY {time} DESC, {key} DESC LIMIT :limit", {**values, "limit": limit}
