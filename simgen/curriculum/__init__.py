"""From a student's evaluation to the demonstrations that it needs next."""
