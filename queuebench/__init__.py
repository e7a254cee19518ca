"""What publisher, subscriber and worker share, and the services around them."""
