"""The report: facts gathered from a run's records, drawn and rendered as a page and as a comment."""
