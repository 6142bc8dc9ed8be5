"""Inputs of a model: read from files, split into sets, or made without any data."""
