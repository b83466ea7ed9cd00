"""Attacks that try to remove a mark: one file per method."""
