"""The networks of the suite, each trained and exported as a tutorial of its framework does it, with nothing tuned for Tally."""
