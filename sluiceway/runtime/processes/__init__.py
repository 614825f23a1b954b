"""The long-lived processes, one module each with `main(settings) -> int`; what they share is in `entry`."""
