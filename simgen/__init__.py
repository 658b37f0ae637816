"""Task generation: sentences to specifications, experts that prove them, demonstrations."""
