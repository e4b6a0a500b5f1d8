"""Is this machine ready for a run? Nothing is imported here, so that the command line can name the options
without numpy."""
