"""Harmonic pruning: which units go, in balance over all groups, and what the others then carry."""
