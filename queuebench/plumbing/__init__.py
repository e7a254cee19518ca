"""What any room may use: a Redis client, an HTTP server's start, open files, printable text."""
