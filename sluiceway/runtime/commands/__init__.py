"""The command line's own work, one module a group of commands. Nothing heavy is imported at the top."""
