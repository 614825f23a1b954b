"""Taking events in: the durable spool, and what a request needs before its events may enter it."""
