"""The ways in which a model is made smaller, and the file that is made of a fitted plan."""
