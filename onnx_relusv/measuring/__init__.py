"""A model and its inputs, measured."""
