"""Config files for the apps, one module per data set."""
