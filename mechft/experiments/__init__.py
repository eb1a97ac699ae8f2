"""Whole studies: a frozen config, a run, a result that can be saved and reported."""
