"""Celery's broker: what waits in it, dead letters, and the transport."""
