"""edgecell: train, quantise, run and explain GRsNet on edge devices.

For research use only; not a medical device.
"""

__version__ = "0.1.0"
RESEARCH_USE = "For research use only. Not for diagnosis."
