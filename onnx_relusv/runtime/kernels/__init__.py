"""Small graphs that onnxruntime runs: ascents, moments, refinement, traces."""
