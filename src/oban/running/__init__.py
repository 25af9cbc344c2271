"""What runs on a node: producers that claim and start jobs, and the loops beside them."""
