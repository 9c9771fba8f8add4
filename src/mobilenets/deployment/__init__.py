"""From a run folder to the fastest file of this machine whose accuracy holds."""
