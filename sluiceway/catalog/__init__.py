"""The catalog: pipelines as versioned contracts, written as YAML, kept in PostgreSQL."""
