"""From the spool to silver, live; from bronze to silver, again; from dead letters to silver, corrected."""
