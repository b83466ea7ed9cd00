"""Training: one loop one can read in a sitting, and the recipes that use it."""
