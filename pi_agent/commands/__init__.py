"""One click verb per file; no logic here."""
