"""The demo: real data, sent through the real event route."""
