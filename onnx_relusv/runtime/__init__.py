"""Running graphs; the only place that knows onnxruntime."""
