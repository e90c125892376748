"""One operation per block under the budget."""
