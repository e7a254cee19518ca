"""The front desk: opens and closes runs, keeps the newest totals, writes results."""
