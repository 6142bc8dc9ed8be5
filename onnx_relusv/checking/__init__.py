"""Whether a written file is right, what it loses, and which of several files is written."""
