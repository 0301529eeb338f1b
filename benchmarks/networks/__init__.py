"""Networks beside each other: cost, form, speed of training, the paper's comparison."""
