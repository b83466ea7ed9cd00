"""From torch to the ONNX files that the Pi runs."""
