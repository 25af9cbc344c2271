"""What is told of a system that runs, for whoever shows it: in a browser, or on a terminal."""
