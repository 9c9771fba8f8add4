"""8-bit networks whose accuracy holds."""
