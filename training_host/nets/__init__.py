"""Network architectures, by name. Every one maps float (n, 3, height, width) to logits (n, classes)."""
