"""Gold assets: what dbt builds."""
