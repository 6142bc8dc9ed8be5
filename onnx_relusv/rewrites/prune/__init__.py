"""Harmonic pruning: which units go, and what the others then carry."""
