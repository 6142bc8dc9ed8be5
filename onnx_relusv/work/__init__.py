"""Long work: the cache, jobs on several cores, signals, temporary and finished files."""
