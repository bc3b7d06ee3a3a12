"""ONNX: a policy for whoever has ONNX Runtime and nothing of this project."""
