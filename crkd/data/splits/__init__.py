"""Known and novel classes, and the training and test parts made of them."""
