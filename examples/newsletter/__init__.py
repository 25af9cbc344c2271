"""A newsletter sent by jobs, one for each subscriber: `python -m examples.newsletter`."""
