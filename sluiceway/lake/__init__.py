"""The lake: every event's bytes as received, in Parquet, in a folder or a bucket."""
