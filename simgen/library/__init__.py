"""The library of certified tasks: storage, novelty, diversity, re-proof, and the pages that show it."""
