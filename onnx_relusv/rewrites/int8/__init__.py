"""Blocks computed with 8-bit integers: weights, their inputs, and the nodes that say so."""
