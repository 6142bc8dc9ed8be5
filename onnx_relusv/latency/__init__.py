"""Measured time: of blocks and their forms by themselves, of whole models, and budgets on it."""
