"""Model files that mean harm, and what has to hold for each."""
