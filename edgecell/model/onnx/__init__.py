"""ONNX model files: with a record of ours inside, and what runs them."""
