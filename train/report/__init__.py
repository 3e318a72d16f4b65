"""The run report: one page for people that says what a training came to, and beside what."""
