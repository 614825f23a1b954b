"""Jobs that keep the store small and honest: compaction, retention, deep checks."""
