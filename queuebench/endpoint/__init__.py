"""Where shipments arrive: answers, and keeps the tally."""
