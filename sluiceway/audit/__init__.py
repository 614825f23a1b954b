"""Who did what, when, from where, and what it was before and after: append-only and hash-chained."""
