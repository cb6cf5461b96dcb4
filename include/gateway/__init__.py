"""The HTTP edge: takes requests, answers what became of them, hands out the images."""
