"""Runs that are done once: jobs named by their content, and the folder that keeps what came of them."""
