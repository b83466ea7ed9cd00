"""The agent that runs on a Raspberry Pi: collects labels inside a query budget, runs and verifies ONNX models."""

__version__ = "0.1.0"
