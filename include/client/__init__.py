"""What producers use: send requests, follow what becomes of them."""
