"""The search for the smallest sufficient subset: plan, trials, search on dev, confirmation, certificate."""
