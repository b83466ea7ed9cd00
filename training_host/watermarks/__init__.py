"""Watermarks that prove ownership: one file per scheme."""
