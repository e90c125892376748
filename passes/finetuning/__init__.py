"""Training of whole students."""
