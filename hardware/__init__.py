"""Real machines and their doubles, behind the ``Backend`` protocol of ``robostack.runtime``."""
