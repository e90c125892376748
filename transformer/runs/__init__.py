"""The run directory: its store, what it is bound to, what makes a finished stage up to date."""
