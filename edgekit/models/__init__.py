"""Networks, their cards and their weights; one file per family."""
