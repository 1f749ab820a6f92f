"""FaceCrafter: identity-conditional face generation with independent control of pose, expression and emotion."""

__version__ = "0.1.0"
