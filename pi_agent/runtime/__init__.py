"""Running ONNX models that come from strangers."""
