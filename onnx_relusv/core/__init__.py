"""Records that travel between the stages, their checks, and how they are stored."""
