"""Why a cell is called what it is called."""

DEFERRED = ("lime", "kernel-shap", "partition-shap")
"""Methods that take many inferences, which the camera loop leaves to the queue."""
