"""Lengths of axes on their way through a graph: what inputs a model can be run on."""
