"""Doing many jobs: in an order their needs allow, over any executor, through the death of workers."""
