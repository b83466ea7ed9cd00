"""The oracle: a model behind an HTTP door, with keys and a quota."""
