"""Networks: images in, features and the logits of known and novel classes out."""
