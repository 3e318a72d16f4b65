"""The run report: one HTML page with the figures of a run, in comparison with baselines."""
