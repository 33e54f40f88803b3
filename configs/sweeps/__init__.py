"""Lists of runs for `apps.sweep`."""
