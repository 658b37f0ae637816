"""robostack: from a sentence to a trained, evaluated robot policy.

Importing this package loads neither torch nor mujoco; the sub-packages load what they need.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
