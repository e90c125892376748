"""Many students from one training."""
