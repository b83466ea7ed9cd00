"""The oracle: a model behind an HTTP door and a TCP door, with keys and one quota."""
