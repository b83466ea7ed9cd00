"""The architectures' names and widths, known without loading torch."""

WIDTHS = {"recycleme": 64, "recycleme-narrow": 16}
"""RecycleMe at the width of its first convolution: the original, and one quarter of it for machines without a GPU."""
