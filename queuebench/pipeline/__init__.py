"""A message's way, in order: publish, receive, hand over, POST."""
