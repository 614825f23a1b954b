"""Streams of the API: server-sent events, and who may follow them."""
