"""From text to a certified TaskSpec."""
