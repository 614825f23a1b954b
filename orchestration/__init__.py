"""Dagster's view of the platform: bronze, silver and gold as assets around the plain library.

Belongs here: definitions, and calls into `sluiceway` and `expectations`. Not here: any work of its own.
The live path never waits for Dagster: it reports here what streaming did, and what is materialised by
hand or on a schedule is the real work done again.
"""
