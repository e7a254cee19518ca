"""The whole pipeline on this machine, without Docker."""
