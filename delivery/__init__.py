"""How it gets there and what comes back: channels, templates, preferences, suppression, outbox, dispatch, feedback."""
