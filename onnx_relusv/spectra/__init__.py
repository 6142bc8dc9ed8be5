"""Measures of blocks: singular values, ReLU singular values, mean widths, moments of inputs."""
