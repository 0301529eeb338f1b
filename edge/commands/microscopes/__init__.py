"""Commands that learn a microscope, and show how right a model is there."""
