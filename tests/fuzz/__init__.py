"""Fuzzing by hand, for longer than CI has time for."""
