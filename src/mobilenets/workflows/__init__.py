"""The body of every verb, one file each: what the Python function of that name does."""
