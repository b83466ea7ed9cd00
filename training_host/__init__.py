"""The training host: victims, watermarks, substitutes, the oracle server, exports for the Pi."""
