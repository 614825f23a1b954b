"""What a workspace uses and may use: events, bytes and seats, soft and hard limits."""
