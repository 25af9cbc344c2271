"""The systems under measurement, an adapter each, spoken to in the same way: see `protocol`."""
