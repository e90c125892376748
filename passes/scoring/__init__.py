"""What the loss says of each candidate alone."""
