"""Guidance (Eq. 6), model families, identity tokens and the diffusers-backed pipeline."""
