"""FaceCrafter: identity-conditional face generation with independent control of pose, expression and emotion."""

__version__ = "0.2.0"
