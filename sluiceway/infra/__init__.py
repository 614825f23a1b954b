"""What every slice stands on: settings, database, embedded server, clock, notifications, outbox."""
