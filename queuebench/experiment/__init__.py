"""Runs that are made to find something out: the highest rate that holds."""
