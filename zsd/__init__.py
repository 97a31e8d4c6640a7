"""zsd: from raw text and class names to a fast classifier, on one machine or a Ray cluster."""

__version__ = "0.1.0"
