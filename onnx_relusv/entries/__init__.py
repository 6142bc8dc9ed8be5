"""Records as plain arrays and back, for the cache; every number comes back as it was."""
