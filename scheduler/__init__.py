"""Who could be told what and when: sources, eligibility, send times, windows, the decision, the commit and the lanes."""
