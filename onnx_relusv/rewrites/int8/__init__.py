"""Blocks computed with integers of 8 bits: weights, their inputs, and the nodes that say so."""
