"""What happened: figures of a process, histograms, ranges, a run's record."""
