"""What each block could become."""
