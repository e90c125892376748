"""What passes, backends, targets, data and runs agree on."""
