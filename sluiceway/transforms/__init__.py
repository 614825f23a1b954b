"""From an event's bytes to a typed row. Pure: no I/O, no clock, no randomness."""
