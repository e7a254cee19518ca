"""The load that a publisher makes: when each message is meant to be sent. Pure functions of time."""
