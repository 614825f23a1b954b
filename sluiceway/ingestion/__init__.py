"""The way in: the durable log on the receiving node, and what decides whether an event is accepted."""
