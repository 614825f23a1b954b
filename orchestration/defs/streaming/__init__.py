"""What the live path did, told to Dagster."""
