"""Who is asking and what they may do: people, sign-in sessions, API keys, permissions."""
