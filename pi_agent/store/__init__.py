"""What the agent remembers: one SQLite file for the ledger and the labels, one folder for the pictures."""
