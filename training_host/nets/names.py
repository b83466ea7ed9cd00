"""The architectures' names and widths, known without loading torch."""

WIDTHS = {"recycleme": 64, "recycleme-narrow": 16, "resnet-small": 24, "mobile-small": 32}
"""The channels of the first convolution. RecycleMe: the original, and one quarter of it for machines without a GPU.
The other two are for thieves, and for honest strangers, who choose another architecture.
"""
