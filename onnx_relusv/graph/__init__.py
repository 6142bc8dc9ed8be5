"""Reading, understanding and editing ONNX files; the only place that knows onnx-graphsurgeon."""
