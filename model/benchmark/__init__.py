"""Eleven networks as people train them: trained, converted, fine-tuned, measured, and beside a peer's rate code."""
