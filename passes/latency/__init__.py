"""What operations and whole networks take on the target: measured, estimated, imported, predicted."""
