"""Channels on their way through a graph, operator by operator, and what ties them together."""
