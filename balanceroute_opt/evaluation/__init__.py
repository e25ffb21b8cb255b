"""What runs are worth: metrics and ratios against bounds. Works on anybody's results."""
