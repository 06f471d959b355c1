"""Classification heads: prototypes, heads of incremental steps, heads after a review."""
