"""What one learns of runs without changing them."""
